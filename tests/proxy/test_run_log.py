"""What `llm-proxy run` does with the proxy's log when the command has ended."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from proxy.cli_run import _report
from tests.proxy.model_servers import model_server, ollama
from tests.proxy.test_run import COMMAND

TEXT = """\
backends:
  fake: {profile: ollama, base_url: "%s/v1"}
models:
  "claude-*": {backend: fake, model: m}
pipelines:
  messages:
    route: POST /v1/messages
    stages: [authenticate, account, validate, record, resolve, translate-in, invoke, translate-out,
             stream-encode]
"""
#: One request, whatever its response is.
AGENT = """
import os, urllib.error, urllib.request
body = b'{"model": "claude-any", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}'
headers = {"content-type": "application/json", "x-api-key": os.environ["ANTHROPIC_AUTH_TOKEN"]}
request = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", body, headers)
try:
    urllib.request.urlopen(request, timeout=60).read()
except urllib.error.HTTPError:
    pass
"""


def run(folder: Path, *options: str) -> tuple[str, list[Path]]:
    """What the command prints to stderr, and the temporary logs that are left."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    with model_server(ollama("m")) as fake:
        (folder / "pipelines.yaml").write_text(TEXT % fake.root)
        ended = subprocess.run(
            [COMMAND, "run", *options, "--", sys.executable, "-c", AGENT],
            cwd=folder,
            env={"TMPDIR": str(temporary), "PATH": "", "HOME": str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    return ended.stderr, list(temporary.glob("llm-proxy-run-*.log"))


def test_after_a_success_no_log_is_left(tmp_path: Path) -> None:
    assert run(tmp_path) == ("", [])
    assert (tmp_path / "usage.db").exists()


@pytest.mark.parametrize("options", [(), ("--log", "run.log")], ids=["temporary", "named"])
def test_usage_that_is_not_recorded_is_reported(options: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "usage.db").mkdir()

    stderr, logs = run(tmp_path, *options)

    report = re.fullmatch("usage or recordings are not complete; the proxy's log is (.*)\n", stderr)
    assert report, stderr
    assert "usage is not recorded: " in (tmp_path / report[1]).read_text()
    assert len(logs) == (not options)


def test_exchanges_that_are_not_recorded_are_reported(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("not a folder")

    stderr, [log] = run(tmp_path)

    assert stderr == f"usage or recordings are not complete; the proxy's log is {log}\n"
    assert "exchanges are not recorded in " in log.read_text()


def test_usage_that_an_earlier_run_lost_is_not_reported_again(tmp_path: Path) -> None:
    (tmp_path / "usage.db").mkdir()
    assert "not complete" in run(tmp_path, "--log", "run.log")[0]
    (tmp_path / "usage.db").rmdir()

    assert run(tmp_path, "--log", "run.log") == ("", [])


def test_a_log_that_is_a_pipe_is_not_read(tmp_path: Path) -> None:
    """A reader would wait for a writer."""
    pipe = tmp_path / "log"
    os.mkfifo(pipe)

    report = Thread(target=_report, args=(0, pipe, 0, False), daemon=True)
    report.start()
    report.join(10)
    assert not report.is_alive()


def test_a_proxy_that_ends_before_its_first_line_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "empty.log"
    log.touch()

    assert _report(None, log, 0, temporary=True) == 1
    assert "the proxy ended before the command" in capsys.readouterr().err
