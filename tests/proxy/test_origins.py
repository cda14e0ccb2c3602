"""How hosts and origins are written, and what they match."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.config.problems import ConfigError
from proxy.config import Server, read
from proxy.origins import host_check, origin_pattern
from tests.cases import for_each

TEXT = """\
server: {{{option}: ["{entry}"]}}
models: {{}}
pipelines:
  models:
    route: GET /v1/models
    stages: [authenticate, list-models]
"""


@for_each(
    "host",
    [
        "",
        "localhost",
        "LocalHost:8080",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:8080",
        "127.9.9.9:1",
        "0.0.0.0:8080",
        "[::1]:8080",
        "::1",
        "192.168.1.2:8080",
        "100.64.0.1",
        "[fd00::1]",
        "app.localhost:8080",
        "my-mac.local",
        "host.docker.internal:8080",
        socket.gethostname().upper(),
    ],
)
def test_row_a1_names_of_this_machine_and_its_network_are_allowed(host: str) -> None:
    assert host_check(())(host.encode())


@for_each(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "8.8.8.8",
        "[2606:4700::1111]:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example:8080",
        "[::1].evil.example",
        "localhost@evil.example",
        "evil.example/localhost",
        "evillocalhost",
        "local",
        "127.0.0.1:8080:evil",
        "\xe9vil",
    ],
)
def test_row_a1_all_other_names_are_foreign(host: str) -> None:
    assert not host_check(())(host.encode("latin-1"))
    assert not host_check(("llm.example", "*.llm.example"))(host.encode("latin-1"))


@pytest.mark.parametrize("host", ["llm.example", "LLM.example:443", "a.b.llm.example:1", "8.8.4.4"])
def test_row_a1_configured_names_are_allowed(host: str) -> None:
    assert not host_check(())(host.encode())
    assert host_check(("llm.EXAMPLE", "*.llm.example", "8.8.4.4"))(host.encode())


@for_each(
    ("entry", "right", "wrong"),
    [
        (
            "https://app.example",
            ["https://app.example", "HTTPS://APP.example"],
            [
                "http://app.example",
                "https://app.example:8443",
                "https://app.example.evil",
                "https://app-example",
                "https://evil/https://app.example",
            ],
        ),
        (
            "http://localhost:*",
            ["http://localhost:3000"],
            [
                "http://localhost",
                "http://localhost:1/",
                "http://localhost.evil:1",
                "http://localhost:1.evil.example",
                "http://localhost:1@evil.example",
            ],
        ),
        (
            "https://*.app.example",
            ["https://a.app.example", "https://a.b.app.example"],
            ["https://app.example", "https://evilapp.example", "https://a/.app.example"],
        ),
        ("vscode-webview://*", ["vscode-webview://1ab2"], ["https://vscode-webview", "null"]),
        ("chrome-extension://abc", ["chrome-extension://abc"], ["chrome-extension://abcd"]),
        ("http://[::1]:3000", ["http://[::1]:3000"], ["http://:3000"]),
        ("*", ["null", "https://any.example", "app://."], []),
    ],
)
def test_row_c8_an_entry_matches_whole_origins(
    entry: str, right: list[str], wrong: list[str]
) -> None:
    assert Server(allowed_origins=(entry,)).allowed_origins == (entry,)
    pattern = origin_pattern(("https://other.example", entry))
    assert all(pattern.fullmatch(origin) for origin in right)
    assert not any(pattern.fullmatch(origin) for origin in wrong)


def test_row_c8_no_entry_matches_no_origin() -> None:
    assert not origin_pattern(()).fullmatch("")
    assert not origin_pattern(()).fullmatch("null")


@pytest.mark.parametrize(
    ("option", "entry", "hint"),
    [
        ("allowed_origins", "https://app.example/", "`https://app.example`"),
        ("allowed_origins", "https://app.example/chat?a", "`https://app.example`"),
        ("allowed_origins", "https://app.example:443", "`https://app.example`"),
        ("allowed_origins", "app.example", "`https://app.example`"),
        ("allowed_origins", "null", '"*"'),
        ("allowed_origins", "https://*.example:*", "at most one `*`"),
        ("allowed_origins", "https://a*b", "browsers send it"),
        ("allowed_origins", "", "browsers send it"),
        ("allowed_hosts", "https://llm.example/v1", "`llm.example`"),
        ("allowed_hosts", "llm.example:8080", "`llm.example`"),
        ("allowed_hosts", "[::1]:8080", "`::1`"),
        ("allowed_hosts", "a b", "`*.llm.example`"),
        ("allowed_hosts", "", "`*.llm.example`"),
    ],
)
def test_row_c8_a_wrong_entry_is_reported_with_a_correction(
    option: str, entry: str, hint: str, tmp_path: Path
) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(TEXT.format(option=option, entry=entry))
    with pytest.raises(ConfigError) as raised:
        read(str(file), {})
    (problem,) = raised.value.problems
    assert f"`{entry}`" in problem.message
    assert hint in problem.hint
