"""The command line in a process: its imports, and its end on an interrupt."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import secrets
from tests.proxy.test_cli import BROKEN, ROOT, write
from tests.wire.command import CLEAN, measured

PRINT_HEAVY_IMPORTS = """\
import sys
from pathlib import Path

from proxy.cli import main

codes = []
for command in ("serve", "check", "stages", "profiles", "schema", "show"):
    try:
        main([command])
    except SystemExit as end:
        codes.append(end.code)
heavy = ("langchain_core", "langchain_openai", "openai", "xllamacpp")
print("codes:", *codes)
print("heavy:", *[name for name in heavy if name in sys.modules])

from proxy.config import read
import stages.repair_tools

read(sys.argv[1], {})
heavy = ("json_repair", "jsonschema_rs", "prometheus_client", "pypdf")
print("heavy:", *[name for name in heavy if name in sys.modules])
"""


def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    """The commands have a broken config; then the shipped one is read."""
    write(tmp_path, BROKEN)

    ended = subprocess.run(
        [sys.executable, "-c", PRINT_HEAVY_IMPORTS, str(ROOT / "pipelines.yaml")],
        cwd=tmp_path,
        env={**CLEAN, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    secrets.printed(ended.stdout + ended.stderr)
    assert "Traceback" not in ended.stderr
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-3:] == ["codes: 1 1 0 0 0 1", "heavy:", "heavy:"]


def test_it_serves_at_its_address_until_an_interrupt(tmp_path: Path) -> None:
    """Until SIGTERM: tests/wire/test_life.py."""
    write(tmp_path)
    # A shell may have started the tests with SIGINT ignored, which processes inherit.
    command = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from proxy.cli import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", command, "--port", "0"],
        cwd=tmp_path,
        env={**measured(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as served:
        try:
            assert served.stdout
            assert served.stderr
            url = served.stdout.readline().split()[-1]
            client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
            client.request("GET", "/v1/models")
            listed = json.load(client.getresponse())
            client.close()
            served.send_signal(signal.SIGINT)
            said, complaints = served.stdout.read(), served.stderr.read()
            secrets.printed(said + complaints)
            served.wait(timeout=30)
        finally:
            served.kill()

    assert [model["id"] for model in listed["data"]] == ["some"]
    assert f"export ANTHROPIC_BASE_URL={url}\n" in said
    assert (served.returncode, "Aborted" in complaints) == (0, False)


INSTALLED = Path(sys.executable).with_name("llm-proxy")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["schema"], 0, '"$schema": "https://json-schema.org/draft/2020-12/schema"'),
        (["show"], 1, "pipelines.yaml:1:1: error[file-absent]: there is no such file"),
        (["explain", "-"], 1, "pipelines.yaml:1:1: error[file-absent]: there is no such file"),
        (["replay", "."], 1, "pipelines.yaml:1:1: error[file-absent]: there is no such file"),
    ],
    ids=["schema", "show", "explain", "replay"],
)
def test_the_installed_command_in_an_empty_folder(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    ended = subprocess.run(
        [str(INSTALLED), *arguments],
        cwd=tmp_path,
        env=CLEAN,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, words in ended.stdout + ended.stderr) == (code, True)
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", ["show", "schema", "profiles"])
def test_a_full_disk_is_reported_with_the_next_action(tmp_path: Path, command: str) -> None:
    """`show` and `profiles` print little, so the disk is full when the buffer is flushed."""
    (tmp_path / "pipelines.yaml").write_bytes((ROOT / "pipelines.yaml").read_bytes())
    executable = Path(sys.executable).with_name("llm-proxy")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [executable, command],
            cwd=tmp_path,
            env=CLEAN,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    message = "Error: No space left on device; free some space, and repeat the command\n"
    assert (ended.returncode, ended.stderr) == (1, message)
