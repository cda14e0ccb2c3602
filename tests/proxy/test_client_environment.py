"""The environment of a client, and what in its settings would replace it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.schema import Config
from proxy.client_environment import changes, conflicts, window
from proxy.config import read

TEXT = """\
backends:
  a: {profile: vllm, context_window: 150000, models: {small: {context_window: 20000}}}
  b: {profile: ollama}
models:
  "claude-*": {backend: a, model: m}
  small: {backend: a}
  both: {targets: [{backend: a, model: small}, {backend: a, model: m}]}
  unknown: {targets: [{backend: a, model: m}, {backend: b, model: m}]}
pipelines:
  one: {route: GET /v1/models, stages: [authenticate, list-models]}
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "pipelines.yaml"
    file.write_text(TEXT)
    return read(str(file), {})


def test_a_client_gets_the_address_and_the_key(config: Config) -> None:
    result = changes(
        config, "http://127.0.0.1:1", "secret", {"ANTHROPIC_API_KEY": "mine", "X": "1"}
    )

    environment = result.apply({"ANTHROPIC_API_KEY": "mine", "X": "1"})
    assert environment == {
        "X": "1",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "ANTHROPIC_AUTH_TOKEN": "secret",
        "CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY": "1",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "150000",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "150000",
    }


def test_what_the_user_has_set_stays(config: Config) -> None:
    own = {"DISABLE_AUTOUPDATER": "0", "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "9"}

    environment = changes(config, "http://x", "secret", own).apply(own)

    assert {name: environment[name] for name in own} == own


def test_other_apis_are_turned_off(config: Config) -> None:
    own = {"CLAUDE_CODE_USE_BEDROCK": "1", "CLAUDE_CODE_OAUTH_TOKEN": "mine"}

    assert not own.keys() & changes(config, "http://x", "secret", own).apply(own).keys()


def test_the_api_key_is_set_on_request(config: Config) -> None:
    environ = {"ANTHROPIC_API_KEY": "mine"}

    result = changes(config, "http://x", "secret", environ, with_api_key=True)

    assert result.apply(environ)["ANTHROPIC_API_KEY"] == "secret"


def test_a_model_is_for_all_calls_of_claude_code(config: Config) -> None:
    added = changes(config, "http://x", "secret", {}, model="small").added

    assert [value for name, value in added.items() if name.endswith("_MODEL")] == ["small"] * 4
    assert added["CLAUDE_CODE_MAX_CONTEXT_TOKENS"] == "20000"


@pytest.mark.parametrize(
    ("name", "tokens"),
    [
        ("claude-any", 150_000),
        ("small", 20_000),
        ("small[1m]", 20_000),
        ("both", 20_000),
        ("unknown", None),
        ("absent", None),
    ],
)
def test_the_window_is_the_smallest_of_the_targets(
    config: Config, name: str, tokens: int | None
) -> None:
    assert window(config, name) == tokens


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"NO_PROXY": "x"}, None),
        ({"http_proxy": "http://p"}, "127.0.0.1"),
        ({"ALL_PROXY": "http://p", "NO_PROXY": "a,b"}, "a,b,127.0.0.1"),
    ],
    ids=["none", "only-no-proxy", "http", "all"],
)
def test_no_http_proxy_gets_the_requests(
    config: Config, environ: dict[str, str], expected: str | None
) -> None:
    assert changes(config, "http://x", "secret", environ).added.get("no_proxy") == expected


@pytest.mark.parametrize(
    ("file", "environ"),
    [
        ("home/.claude/settings.json", {"HOME": "home"}),
        ("other/settings.json", {"HOME": "home", "CLAUDE_CONFIG_DIR": "other"}),
        (".claude/settings.json", {"HOME": "home"}),
        (".claude/settings.local.json", {"HOME": "home"}),
    ],
    ids=["own", "config-dir", "project", "local"],
)
def test_settings_that_replace_the_address_are_reported(
    tmp_path: Path, file: str, environ: dict[str, str]
) -> None:
    place = tmp_path / file
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"env": {"ANTHROPIC_BASE_URL": "http://other", "X": "1"}}))
    environ = {name: str(tmp_path / value) for name, value in environ.items()}

    assert list(conflicts(["/bin/claude"], environ, tmp_path)) == [
        f"`ANTHROPIC_BASE_URL` in {place}"
    ]
    assert not list(conflicts(["python"], environ, tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"env": 1}', '{"model": "x"}'], ids=str)
def test_other_settings_are_no_conflict(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_text(text)

    assert not list(conflicts(["claude"], {"CLAUDE_CONFIG_DIR": str(tmp_path)}, tmp_path))


def test_a_folder_other_than_that_of_claude_config_dir_is_not_read(tmp_path: Path) -> None:
    own = tmp_path / ".claude"
    own.mkdir()
    (own / "settings.json").write_text('{"env": {"ANTHROPIC_BASE_URL": "x"}}')
    environ = {"HOME": str(tmp_path), "CLAUDE_CONFIG_DIR": str(tmp_path / "other")}

    assert not list(conflicts(["claude"], environ, tmp_path / "project"))
