"""Binding, and the greeting of a started proxy."""

from __future__ import annotations

import errno
import os
import pickle
import socket
from pathlib import Path
from typing import Any

import click
import pytest

from pipeline.config.schema import Config
from pipeline.config.text_width import text_width
from proxy.app import App
from proxy.config import Server, read
from proxy.http.limits import ConnectionLimits
from proxy.serve import bind, bind_hint, greeting, uvicorn_config

TEXT = """\
backends:
  here: {profile: ollama}
  unset: {base_url: "${NO_SUCH_HOST}"}
models:
  some: {backend: here}
  "claude-*": {backend: here, model: llama3.2}
  both: {targets: [{backend: here, model: a}, {backend: here}]}
pipelines:
  models:
    route: GET /v1/models
    stages: [authenticate, list-models]
"""


def config_of(folder: Path, text: str = TEXT, **environ: str) -> Config:
    file = folder / "some.yaml"
    file.write_text(text)
    return read(str(file), environ)


def test_the_greeting_has_the_address_the_models_and_the_usage(tmp_path: Path) -> None:
    assert greeting(config_of(tmp_path), Server(), 8080) == (
        "llm-proxy 0.1.0 listens on http://127.0.0.1:8080\n"
        "\n"
        "models:\n"
        "  some      here: the same name\n"
        "  claude-*  here: llama3.2\n"
        "  both      here: a\n"
        "            here: the same name\n"
        "\n"
        "note: `unset` is not used, and cannot be: "
        "the environment variable NO_SUCH_HOST is not set or is empty\n"
        "\n"
        "set for the client:\n"
        "  export ANTHROPIC_BASE_URL=http://127.0.0.1:8080\n"
        "  export ANTHROPIC_AUTH_TOKEN=anything\n"
    )


def test_the_greeting_shows_each_target_of_a_model(tmp_path: Path) -> None:
    targets = "targets: [{backend: here, model: qwen3}, {backend: here, model: llama3.2}]"
    text = TEXT.replace("backend: here, model: llama3.2", targets)
    assert greeting(config_of(tmp_path, text), Server(), 8080).splitlines()[2:6] == [
        "models:",
        "  some      here: the same name",
        "  claude-*  here: qwen3",
        "            here: llama3.2",
    ]


def test_wide_names_keep_the_columns_of_the_greeting(tmp_path: Path) -> None:
    text = TEXT.replace("claude-*", "模型")
    lines = greeting(config_of(tmp_path, text), Server(), 8080).splitlines()[3:6]

    starts = [text_width(line.partition("here")[0]) for line in lines]
    assert len(set(starts)) == 1, lines


def test_a_misspelt_format_of_the_log_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_PROXY_LOG", "INFO")
    monkeypatch.setenv("LLM_PROXY_LOG_FORMAT", "jsno\n")

    lines = greeting(config_of(tmp_path), Server(), 8080).splitlines()

    (note,) = [line for line in lines if "LLM_PROXY_LOG" in line]
    assert note == r"note: LLM_PROXY_LOG_FORMAT=jsno\n has no effect: set it to `json`"


def test_without_models_or_notes_the_greeting_is_short(tmp_path: Path) -> None:
    text = TEXT[TEXT.index("pipelines:") :]

    assert greeting(config_of(tmp_path, text), Server("localhost"), 80).splitlines()[1:5] == [
        "",
        "models:",
        "",
        "set for the client:",
    ]


def test_with_a_key_the_greeting_asks_for_it_and_does_not_show_it(tmp_path: Path) -> None:
    shown = greeting(config_of(tmp_path, PROXY_API_KEY="s3cret"), Server(), 8080)

    assert "export ANTHROPIC_AUTH_TOKEN=…  # PROXY_API_KEY, or a key of the config" in shown
    assert "s3cret" not in shown


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("localhost", "http://localhost:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("[::1]", "http://[::1]:80"),
        ("[::]", "http://[::1]:80"),
    ],
)
def test_the_address_shown_can_be_typed(tmp_path: Path, host: str, url: str) -> None:
    assert f"listens on {url}\n" in greeting(config_of(tmp_path), Server(host), 80)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_port_0_takes_a_free_one(host: str) -> None:
    with bind(host, 0) as bound:
        port = bound.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            assert port > 0


def test_a_port_can_be_taken_again_at_once() -> None:
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port), timeout=5)
        served, _ = first.accept()
        served.close()
        client.close()

    with bind("127.0.0.1", port) as again:
        assert again.getsockname()[1] == port


def refusal(host: str, port: int) -> str:
    with pytest.raises(click.ClickException) as caught:
        bind(host, port)
    return caught.value.message


def test_a_port_in_use_is_reported_with_a_hint() -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]

        assert refusal("127.0.0.1", port) == (
            f"cannot listen on 127.0.0.1:{port}: {os.strerror(errno.EADDRINUSE)}\n"
            "  hint: another program uses this port; try `--port 0` for a free one"
        )


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("203.0.113.1", os.strerror(errno.EADDRNOTAVAIL)),
        ("ä..b", "not a valid host name"),
        (f"{'ä' * 70}.b", "not a valid host name"),
        ("a\0b", "not a valid host name"),
    ],
    ids=["of-another-machine", "empty-label", "long-label", "null"],
)
def test_a_host_of_another_machine_is_reported(host: str, words: str) -> None:
    reported = refusal(host, 0)

    assert f"cannot listen on {host}:0: {words}" in reported
    assert "set `--host` to an address of this machine" in reported


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "try `--port 8080`"),
        (socket.gaierror(-2, "Name or service not known"), "set `--host` to an address"),
        (OSError(errno.EADDRINUSE, "Address already in use"), "try `--port 0`"),
    ],
    ids=["not-allowed", "unknown-name", "taken"],
)
def test_the_hint_fits_the_reason(error: Exception, hint: str) -> None:
    assert hint in bind_hint(error)


def no_app() -> App:
    """For a configuration that is only looked at: nobody serves by it, so nobody makes this."""
    raise AssertionError("nothing is served here")


@pytest.mark.parametrize(
    ("server", "limits"),
    [
        (Server(), ConnectionLimits()),
        (
            Server(min_body_bytes_per_second=5, send_timeout=7),
            ConnectionLimits(min_body_bytes_per_second=5, send_timeout=7),
        ),
    ],
    ids=["default", "configured"],
)
def test_connections_have_the_configured_limits(server: Server, limits: ConnectionLimits) -> None:
    config: Any = pickle.loads(pickle.dumps(uvicorn_config(no_app, server)))  # as workers get it

    assert config.http.keywords == {"limits": limits}


def test_an_idle_connection_is_closed_by_one_rule() -> None:
    config = uvicorn_config(no_app, Server())

    assert config.timeout_keep_alive > ConnectionLimits().client_timeout
    assert (
        ConnectionLimits().client_timeout > 5
    )  # after which httpx, under the Anthropic SDK, closes its side


def test_the_greeting_says_where_usage_is_recorded_and_its_limit(tmp_path: Path) -> None:
    text = TEXT.replace("[authenticate, list-models]", "[authenticate, account, list-models]")
    text += "usage: {file: my.db, max_bytes: 10485760}\n"

    lines = greeting(config_of(tmp_path, text), Server(), 8080).splitlines()

    assert f"usage: {tmp_path}/my.db, at most 10 MiB" in lines
    assert not [
        line for line in greeting(config_of(tmp_path), Server(), 80).splitlines() if "usage" in line
    ]


def test_the_greeting_has_the_address_of_the_page(tmp_path: Path) -> None:
    page = '  ui: {route: [GET /ui, "GET /ui/{path:path}"], stages: [authenticate, ui]}\n'

    lines = greeting(config_of(tmp_path, TEXT + page), Server("0.0.0.0"), 8080).splitlines()

    assert "page: http://127.0.0.1:8080/ui" in lines
