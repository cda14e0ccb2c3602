"""`llm-proxy run` as installed: the command, the proxy and the first process end together."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from attrs import define
from click.testing import CliRunner

from proxy.cli import main
from tests import secrets
from tests.proxy.model_servers import model_server, ollama
from tests.waiting import until

COMMAND = str(Path(sys.executable).with_name("llm-proxy"))
LIMIT = 60.0

TEXT = """\
backends:
  fake: {profile: ollama, base_url: "%s/v1"}
models:
  "claude-*": {backend: fake, model: m}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate: {keys: [the-configured-key]}
      - validate
      - resolve
      - translate-in
      - invoke
      - translate-out
      - stream-encode
"""

#: An agent with the official SDK.
AGENT = """
import os, subprocess, sys
import anthropic

message = anthropic.Anthropic(max_retries=0).messages.create(
    model="claude-any", max_tokens=9, messages=[{"role": "user", "content": "Hi."}],
    extra_headers={"x-claude-code-session-id": "s1"},
)
print(message.content[0].text)
for key in ("the-configured-key", "wrong"):
    try:
        anthropic.Anthropic(auth_token=key, max_retries=0).messages.create(
            model="claude-any", max_tokens=9, messages=[{"role": "user", "content": "Hi."}]
        )
    except anthropic.AuthenticationError as error:
        print(error.status_code)
status = subprocess.run(
    ["COMMAND", "statusline"], input='{"session_id": "s1"}', capture_output=True, text=True
)
print(status.stdout, end="")
print(os.environ["ANTHROPIC_AUTH_TOKEN"])
sys.exit(7)
""".replace("COMMAND", COMMAND)

#: It reports its signals, stops after each line of its input, and ends with a SIGTERM or SIGHUP.
#: A thread reads the input: Python runs no handler of a signal that comes just before a `read`.
PATIENT = """
import os, signal, threading
def stop():
    while os.read(0, 1000): os.kill(os.getpid(), signal.SIGSTOP)

waited = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCONT}
signal.pthread_sigmask(signal.SIG_BLOCK, waited)
threading.Thread(target=stop, daemon=True).start()
print("ready", os.getpid(), flush=True)
number = None
while number not in (signal.SIGTERM, signal.SIGHUP):
    number = signal.sigwait(waited)
    print(number.name, flush=True)
os._exit(5)
"""


PAGE = """
  ui:
    route: [GET /ui, "GET /ui/{path:path}"]
    stages: [authenticate: {basic: true}, ui]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipelines.yaml").write_text(TEXT % "http://127.0.0.1:1")
    (tmp_path / "tmp").mkdir()
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC", "LLM_PROXY"))}
    return {**kept, "TMPDIR": str(folder / "tmp"), "HOME": str(folder)}


def started(folder: Path, script: str, **options: object) -> subprocess.Popen[str]:
    return started_as(folder, sys.executable, "-c", script, **options)


def started_as(folder: Path, *command: str, **options: object) -> subprocess.Popen[str]:
    standard = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [COMMAND, "run", "--", *command],
        cwd=folder,
        env=environment(folder),
        text=True,
        **standard,
    )


def test_an_agent_uses_the_proxy_and_its_exit_status_is_passed_on(folder: Path) -> None:
    with model_server(ollama("m")) as fake:
        (folder / "pipelines.yaml").write_text(TEXT % fake.root)
        with started(folder, AGENT) as process:
            said, complaints = process.communicate(timeout=LIMIT)

    assert process.returncode == 7, complaints
    *lines, key = said.splitlines()
    *before, status = lines
    assert before == ["Hello there", "401", "401"]
    # On a busy machine the response takes so long that it has a speed.
    assert re.fullmatch(r"m \(fake\) · prompt 12, 0% cached( · \d+ tokens/s)?", status)
    (request,) = fake.bodies("/v1/chat/completions")
    assert request["model"] == "m"
    log = Path(re.search(r"ended with 7; the proxy's log is (.+)\n", complaints)[1])  # type: ignore[index]
    assert log.stat().st_mode & 0o777 == 0o600
    assert "POST /v1/messages 200" in log.read_text()
    assert "session-status" not in log.read_text()
    assert not [file for file in folder.rglob("*") if file.is_file() and key in file.read_text()]
    secrets.printed(complaints + log.read_text())


@define
class Running:
    """The command in a terminal of its own. `ours` is the other end of the terminal."""

    process: subprocess.Popen[str]
    ours: int
    text: str = ""

    def read_to(self, words: str) -> str:
        """Read the terminal until these words and the end of their line; the line."""
        while not (match := re.search(rf".*{words}.*\r?\n", self.text)):
            self.text += os.read(self.ours, 1000).decode()
        self.text = self.text[match.end() :]
        return match[0].strip()

    def type(self, text: str) -> None:
        """Type into the terminal."""
        os.write(self.ours, text.encode())

    @property
    def children(self) -> list[int]:
        """The ids of the command and the proxy."""
        file = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in file.read_text().split()]


@pytest.fixture
def running(folder: Path) -> Iterator[Running]:
    ours, theirs = pty.openpty()

    def with_terminal() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(0), os.O_RDWR))  # becomes the controlling terminal

    standard = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with started(folder, PATIENT, preexec_fn=with_terminal, **standard) as process:
        os.close(theirs)
        yield Running(process, ours)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    os.close(ours)


def command_and_proxy(running: Running) -> tuple[int, int]:
    """Wait for both processes; their ids."""
    command = int(running.read_to("ready").split()[1])
    while len(running.children) < 2:
        os.sched_yield()
    (proxy,) = [number for number in running.children if number != command]
    return command, proxy


def is_gone(pid: int) -> bool:
    """Wait until the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    import select

    ready = bool(select.select([descriptor], [], [], LIMIT)[0])
    os.close(descriptor)
    return ready


def test_signals_and_job_control_reach_the_command_once(running: Running) -> None:
    _, proxy = command_and_proxy(running)
    first = running.process.pid

    running.type("\x03")  # Ctrl-C
    assert running.read_to("SIGINT").endswith("SIGINT")
    os.kill(first, signal.SIGUSR1)
    assert running.read_to("SIG") == "SIGUSR1"

    running.type("stop\n")
    _, status = os.waitpid(first, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(first, signal.SIGCONT)
    assert running.read_to("SIG") == "SIGCONT"

    os.kill(first, signal.SIGTERM)
    assert running.read_to("SIGTERM") == "SIGTERM"
    assert running.process.wait(LIMIT) == 5
    assert is_gone(proxy)


def test_a_killed_command_ends_the_proxy(running: Running) -> None:
    command, proxy = command_and_proxy(running)

    os.kill(command, signal.SIGKILL)

    assert running.process.wait(LIMIT) == 128 + signal.SIGKILL
    assert is_gone(proxy)


def test_a_killed_proxy_ends_the_command_and_is_reported(running: Running, folder: Path) -> None:
    command, proxy = command_and_proxy(running)
    (log,) = (folder / "tmp").iterdir()
    log.write_text("its last words\n")

    os.kill(proxy, signal.SIGKILL)

    assert running.read_to("SIGTERM") == "SIGTERM"
    assert (
        running.read_to("Error") == f"Error: the proxy ended before the command; its log is {log}"
    )
    assert running.process.wait(LIMIT) == 1
    assert is_gone(command)


@pytest.mark.parametrize("number", [None, signal.SIGSTOP])
def test_nothing_outlives_the_first_process(running: Running, number: int | None) -> None:
    command, proxy = command_and_proxy(running)
    if number:
        os.kill(command, number)

    os.kill(running.process.pid, signal.SIGKILL)

    assert is_gone(proxy)
    assert is_gone(command)


def test_a_command_that_ignores_hangups_ends_too(folder: Path) -> None:
    """As with `nohup`."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with started_as(folder, "sh", "-c", "echo $$; exec sleep 99", preexec_fn=ignore) as process:
        assert process.stdout
        command = int(process.stdout.readline())
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until(lambda: len(children.read_text().split()) == 2, "there is no proxy")
        process.kill()
        assert is_gone(command)


def cli(folder: Path, *arguments: str, **environ: str | None) -> tuple[int, str, str]:
    clean = dict.fromkeys(("LLM_PROXY_CONFIG", "PROXY_API_KEY", "CLAUDE_CONFIG_DIR"))
    with contextlib.chdir(folder):
        env = {**clean, "HOME": str(folder), **environ}
        result = CliRunner(env=env).invoke(main, ["run", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_print_shows_what_would_happen(folder: Path) -> None:
    code, stdout, stderr = cli(
        folder, "--print", "--", "claude", "-p", "two words", ANTHROPIC_API_KEY="mine"
    )

    assert (code, stderr, list((folder / "tmp").iterdir())) == (0, "", [])
    assert stdout.splitlines()[:4] == [
        "serve pipelines.yaml on a free port of 127.0.0.1, with a new key",
        "set:",
        "  ANTHROPIC_BASE_URL=http://127.0.0.1:<free port>",
        "  ANTHROPIC_AUTH_TOKEN=<new key>",
    ]
    assert stdout.endswith("remove: ANTHROPIC_API_KEY\nrun: claude -p 'two words'\n")


def test_the_address_of_the_page_is_on_stderr_and_the_key_in_no_file(folder: Path) -> None:
    with (folder / "pipelines.yaml").open("a") as file:
        file.write(PAGE)
    code, stdout, _ = cli(folder, "--print", "--", "claude")
    with started(folder, "import os; print(os.environ['ANTHROPIC_AUTH_TOKEN'])") as running:
        key, stderr = running.communicate(timeout=LIMIT)

    assert code == 0
    assert "page: http://127.0.0.1:<free port>/ui; password: " in stdout
    assert re.search(r"page at http://127\.0\.0\.1:\d+/ui; password: ANTHROPIC_AUTH_TOKEN", stderr)
    assert len(key.strip()) > 20
    assert key.strip() not in stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--", "no-such-command"], 1, "there is no command no-such-command\n  hint: install it"),
        (["--model", "clade-x", "true"], 1, "the config has no model `clade-x`\n  hint: "),
        (
            ["--config", "absent.yaml", "true"],
            1,
            "hint: type `llm-proxy init`",
        ),
        (
            ["--log", "absent/x.log", "true"],
            1,
            "written to absent/x.log: No such file",
        ),
        ([], 2, "Missing argument"),
        (["--prnt", "true"], 2, "No such option"),
    ],
    ids=["command", "model", "config", "log", "nothing", "option"],
)
def test_mistakes_are_reported(
    folder: Path, arguments: Sequence[str], code: int, words: str
) -> None:
    ended, stdout, stderr = cli(folder, *arguments)

    assert (ended, stdout) == (code, "")
    assert words in stderr


def test_a_path_that_is_no_command_is_reported(folder: Path) -> None:
    (folder / "agent.py").write_text("print()")

    for path, words in (
        ("./agent.py", "./agent.py is not executable\n  hint: make it executable with `chmod +x"),
        (str(folder), f"{folder} is a folder\n  hint: name the command in it"),
        ("./absent.py", "there is no command ./absent.py\n  hint: install it"),
    ):
        ended, _, stderr = cli(folder, "--", path)

        assert ended == 1
        assert words in stderr


def test_a_command_that_cannot_start_leaves_no_log(folder: Path) -> None:
    broken = folder / "broken"
    broken.write_bytes(b"\x7fELF")
    broken.chmod(0o700)
    with started_as(folder, str(broken)) as process:
        complaints = process.communicate(timeout=LIMIT)[1]

    assert process.returncode == 1
    assert f"Error: {broken} cannot be started: Exec format error\n  hint: " in complaints
    assert not list((folder / "tmp").iterdir())


def test_claude_code_is_not_started_past_the_proxy(folder: Path) -> None:
    settings = folder / ".claude" / "settings.json"
    settings.parent.mkdir()
    settings.write_text('{"env": {"ANTHROPIC_BASE_URL": "http://other"}}')

    code, _, stderr = cli(folder, "--", "claude")

    assert code == 1
    assert f"because of `ANTHROPIC_BASE_URL` in {settings}\n  hint: remove it there; if" in stderr


def test_a_reload_keeps_the_key(tmp_path: Path) -> None:
    """The config of a reload goes through the same change as the first one."""
    from proxy.config import read
    from proxy.reload import Reload
    from proxy.run import with_key

    file = tmp_path / "pipelines.yaml"
    file.write_text(TEXT % "http://127.0.0.1:1")
    config = with_key(read(str(file), {}), "new")

    again = Reload(config, "127.0.0.1", transform=lambda loaded: with_key(loaded, "new"))._read()

    for loaded in (config, again):
        (pipeline,) = loaded.pipelines
        assert pipeline.stages[0].keys == ("new",)  # type: ignore[attr-defined]
        assert pipeline.chain.links[0].stage is pipeline.stages[0]
