"""The status line: what it prints, that it is light, and the numbers that the proxy gives it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.testing import check_stage, run_stage
from proxy.config import read
from proxy.http.limits import ConnectionLimits
from proxy.session_status import PATH, Sessions, SessionStatus, TrackSession, with_session_status
from proxy.statusline import PATH as ASKED
from proxy.statusline import line
from stages.events import Authenticated, ResponseBody
from stages.exchange import Attempt, Exchange, Target
from stages.messages_api.usage import Usage
from stages.profiles.price import Price
from tests.cases import for_each
from tests.proxy.model_servers import model_server
from tests.support import http
from tests.wire.command import CLEAN, LIMIT
from tests.wire.proxy import config_text, serving

COMMAND = str(Path(sys.executable).with_name("llm-proxy"))
FULL = {
    "requests": 3,
    "model": "qwen3:8b",
    "backend": "ollama",
    "prompt_tokens": 22300,
    "cached_tokens": 20300,
    "tokens_per_second": 41.2,
    "waiting_seconds": 12.3,
    "cost": 0.456,
}


def asked(status: Any, session: str = "s1") -> str:
    """The line, if the proxy reports `status`."""
    with model_server({f"{PATH}{session}": status}) as fake:
        text = json.dumps({"session_id": session})
        return line(text, {"ANTHROPIC_BASE_URL": fake.root}, timeout=LIMIT)


@for_each(
    ("status", "expected"),
    [
        (
            FULL,
            "qwen3:8b (ollama) · prompt 22.3k, 91% cached · 41 tokens/s · waiting 12 s · cost 0.46",
        ),
        ({"requests": 0}, "llm-proxy: no request yet"),
        ({"model": "m", "backend": "b", "cost": 0.0012}, "m (b) · cost 0.0012"),
        ({"model": "m", "backend": "b", "cost": 0.00002}, "m (b) · cost <0.0001"),
        ({"model": "m", "backend": "b", "waiting_seconds": 0.4}, "m (b)"),
        ({"model": "a\x1b[31mb\n", "backend": 3}, "a[31mb ()"),
        ([1], "llm-proxy: no request yet"),
        ({"prompt_tokens": "many", "waiting_seconds": True}, "llm-proxy: no request yet"),
    ],
    ids=[
        *("all", "none", "small-cost", "tiny-cost", "short-wait", "control-characters", "list"),
        "wrong-types",
    ],
)
def test_it_prints_what_is_known(status: Any, expected: str) -> None:
    assert asked(status) == expected


@for_each(
    "url",
    [
        "",
        "http://127.0.0.1:1",
        "https://127.0.0.1:1",
        "http://api.example",
        "http://[",
        "http://x:y",
    ],
)
def test_it_is_safe_without_a_proxy(url: str) -> None:
    text = json.dumps({"session_id": "s", "model": {"display_name": "Opus"}})

    assert line(text, {"ANTHROPIC_BASE_URL": url}) == "Opus · no proxy"


@for_each("text", ["", "[]", "{", '{"model": 1, "session_id": 2}', "[" * 100_000])
def test_it_is_safe_with_any_input(text: str) -> None:
    assert line(text, {}) == "no proxy"


def test_another_server_gives_no_numbers() -> None:
    with model_server({}) as fake:
        assert line("{}", {"ANTHROPIC_BASE_URL": fake.root}) == "no proxy"


def test_the_path_is_the_one_that_the_proxy_serves() -> None:
    assert ASKED == PATH


def test_the_installed_command_imports_nothing_heavy(tmp_path: Path) -> None:
    """Modules are counted, not seconds: the command line alone has some 500."""
    script = (
        "import sys, llm_proxy; sys.argv[1:] = ['statusline']; llm_proxy.main(); "
        "print(*[n for n in ('click', 'attrs', 'http', 'email', 'ssl', 'asyncio', 'proxy.cli')"
        " if n in sys.modules]); print(len(sys.modules))"
    )
    environ = {k: v for k, v in CLEAN.items() if k != "ANTHROPIC_BASE_URL"}  # without coverage
    said = subprocess.run(
        [sys.executable, "-c", script],
        input="{}",
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.splitlines()

    assert said[:2] == ["no proxy", ""]
    assert int(said[2]) < 150


def ended(session: str, usage: Usage | None, **times: float) -> Exchange:
    exchange = Exchange(session=session)
    exchange.attempts.append(Attempt(Target("ollama", "m"), sent=0.0))
    exchange.usage = usage
    for name, value in times.items():
        setattr(exchange, name, value)
    return exchange


def test_a_session_has_the_numbers_of_its_last_response() -> None:
    sessions = Sessions()
    usage = Usage(input_tokens=10, output_tokens=20, cache_read_input_tokens=30)
    first = ended("s", usage, first_token=1.0, ended=3.0)
    failed = ended("s", None)
    for exchange in (first, failed):
        sessions.begin(exchange)
        for function in exchange.on_end:
            function(exchange)

    assert sessions.status("s") == {
        "requests": 2,
        "backend": "ollama",
        "model": "m",
        "prompt_tokens": 40,
        "cached_tokens": 30,
        "output_tokens": 20,
        "tokens_per_second": 10.0,
    }
    assert sessions.status("other") == {"requests": 0}


PRICED = """
backends:
  gpu: {base_url: "http://127.0.0.1:1/v1", price: {input: 2, output: 10}}
  free: {base_url: "http://127.0.0.1:1/v1"}
models:
  a: {backend: gpu, model: m, overrides: {price: {input: 4, output: 10}}}
  b: {backend: free}
"""


def end(sessions: Sessions, *targets: Target) -> None:
    """Begin and end an exchange of the session `s` with an attempt at each target."""
    exchange = Exchange(session="s")
    used = Usage(input_tokens=500_000, output_tokens=100_000)
    exchange.attempts = [Attempt(each, sent=1.0, ended=2.0, usage=used) for each in targets]
    sessions.begin(exchange)
    for function in exchange.on_end:
        function(exchange)


def test_a_session_has_the_cost_of_all_its_attempts(tmp_path: Path) -> None:
    """By the prices of the model, otherwise of the backend; a reload may change them."""
    file = tmp_path / "pipelines.yaml"
    file.write_text(PRICED + "pipelines:" + config_text("").partition("pipelines:")[2])
    sessions = Sessions()

    with_session_status(read(str(file), {}), sessions, "key")
    end(sessions, Target("free", "b"))
    assert "cost" not in sessions.status("s")
    end(sessions, Target("gpu", "other"))
    assert sessions.status("s")["cost"] == pytest.approx(1 + 1)
    end(sessions, Target("gpu", "m"), Target("free", "b"), Target("gpu", "m"))
    assert sessions.status("s")["cost"] == pytest.approx(2 + 2 * (2 + 1))

    file.write_text(file.read_text().replace("output: 10", "output: 0"))
    with_session_status(read(str(file), {}), sessions, "key")
    end(sessions, Target("gpu", "other"))
    assert sessions.status("s")["cost"] == pytest.approx(8 + 1)


def test_a_request_without_a_call_costs_nothing() -> None:
    sessions = Sessions(lambda backend, model: (Price(input=1),))

    end(sessions)

    assert sessions.status("s") == {"requests": 1}


def test_a_request_without_a_first_token_waits() -> None:
    sessions = Sessions()
    sessions.begin(Exchange(session="s", received=time.monotonic() - 5))

    assert 5 <= sessions.status("s")["waiting_seconds"] < 60


def test_old_sessions_are_forgotten_and_their_requests_still_end() -> None:
    sessions = Sessions()
    exchanges = [Exchange(id=f"r{n}", session=f"s{n}") for n in range(1001)]
    for exchange in exchanges:
        sessions.begin(exchange)
    for function in exchanges[0].on_end:
        function(exchanges[0])

    assert sessions.status("s0") == {"requests": 0}
    assert "waiting_seconds" in sessions.status("s1")


async def test_the_stages_keep_to_the_contract() -> None:
    sessions = Sessions()
    event = Authenticated(http(method="GET"))

    await check_stage(TrackSession(sessions), [event])
    await check_stage(SessionStatus(sessions), [event])
    _, body = await run_stage(SessionStatus(sessions), [event])
    assert isinstance(body, ResponseBody)
    assert body.data == b'{"requests":0}'


def test_a_proxy_serves_the_numbers_to_its_key_only(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(config_text("http://127.0.0.1:1"))
    config = with_session_status(read(str(file), {}), Sessions(), "key")

    with serving(config, ConnectionLimits()) as url:
        lines = [
            line(
                '{"session_id": "s/1"}',
                {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": key},
                timeout=LIMIT,
            )
            for key in ("key", "wrong")
        ]

    assert lines == ["llm-proxy: no request yet", "no proxy"]


@pytest.mark.parametrize(
    ("redirection", "expected"),
    [(">/dev/full", ""), (">&-", ""), ("</dev/null", "no proxy\n"), ("<&-", "no proxy\n")],
)
def test_it_never_fails(redirection: str, expected: str) -> None:
    ended = subprocess.run(
        ["sh", "-c", f"exec {COMMAND} statusline {redirection}"],
        input=b"\xff{",
        env=CLEAN,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert (ended.returncode, ended.stdout.decode(), ended.stderr) == (0, expected, b"")
