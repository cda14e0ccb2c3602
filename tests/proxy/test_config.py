"""Which file is read, and whom it lets in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.problems import ConfigError
from pipeline.config.schema import Config
from proxy.config import Server, check_open_access, is_loopback, locate, read, referenced_backends
from tests.cases import for_each

ROOT = Path(__file__).parents[2]

TEXT = """\
backends:
  here: {profile: ollama}
  there: {profile: vllm}
  unset: {base_url: "${NO_SUCH_HOST}"}
models:
  some: {backend: here}
  other: {backend: here, model: x}
pipelines:
  one:
    route: GET /one
    stages: [authenticate: OPTIONS, list-models]
  two:
    route: GET /two
    stages: [authenticate, list-models]
"""


def config_of(folder: Path, options: str = "{}", **environ: str) -> Config:
    file = folder / "some.yaml"
    file.write_text(TEXT.replace("OPTIONS", options))
    return read(str(file), environ)


@for_each(
    ("file", "environ", "found"),
    [
        ("a.yaml", {"LLM_PROXY_CONFIG": "b.yaml"}, "a.yaml"),
        (None, {"LLM_PROXY_CONFIG": "b.yaml"}, "b.yaml"),
        ("", {"LLM_PROXY_CONFIG": "b.yaml"}, "b.yaml"),
        (None, {"LLM_PROXY_CONFIG": ""}, "pipelines.yaml"),
        (None, {}, "pipelines.yaml"),
    ],
    ids=["option", "variable", "empty-option", "empty-variable", "neither"],
)
def test_the_option_wins_over_the_variable_and_the_default(
    file: str | None, environ: dict[str, str], found: str
) -> None:
    assert locate(file, environ) == found


def test_the_shipped_config_is_valid() -> None:
    config = read(str(ROOT / "pipelines.yaml"), {})

    assert [pipeline.name for pipeline in config.pipelines] == [
        "messages",
        "count-tokens",
        "models",
        "metrics",
        "ui",
    ]
    assert config.sections["server"] == Server()
    assert [note.code for note in config.notes] == ["missing-variable"]


def test_the_shipped_config_has_no_notes_when_all_is_set() -> None:
    environ = {"DATABRICKS_HOST": "https://host.invalid", "DATABRICKS_TOKEN": "token"}

    assert not read(str(ROOT / "pipelines.yaml"), environ).notes


SHIPPED = (ROOT / "pipelines.yaml").read_text(encoding="utf-8")
WORDS = re.findall(r"\s+|[\w./-]+|.", SHIPPED)
SECRET = "s3cret"
REPLACEMENTS = [
    *"null 5 1.5 true [] {} 'x' *keys &keys ${KEY} ${ - : ? | ' % ollama local invoke".split(),
    *["", "\n", "  ", "\t", "{a: b}", "[a, b]", "!!int x", "authenticate: {keys: 5}", '"${KEY}"'],
    *["default: x", "os:path", "collections:OrderedDict", "stages.invoke:Invoke", "<<"],
]


@settings(deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(WORDS) - 1), st.sampled_from(REPLACEMENTS)),
        min_size=1,
        max_size=3,
    )
)
def test_no_typing_error_crashes_read(
    edits: list[tuple[int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = list(WORDS)
    for place, replacement in edits:
        words[place] = replacement
    text = "".join(words)
    file = tmp_path_factory.getbasetemp() / "edited.yaml"
    file.write_text(text, encoding="utf-8")

    try:
        problems = read(str(file), {"KEY": SECRET}).notes
        reported = "".join(problem.message + problem.hint for problem in problems)
    except ConfigError as error:
        problems, reported = tuple(error.problems), str(error)

    assert all(each.location.line <= len(text.splitlines()) + 1 for each in problems)
    assert SECRET not in reported


@for_each(
    ("host", "alone"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.168.1.5", False),
        ("128.0.0.1", False),
        ("localhost.example.com", False),
        ("some-host", False),
    ],
)
def test_loopback_addresses_are_recognised(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


def doors(config: Config, host: str) -> list[int]:
    """The lines of the pipelines that are open to everybody."""
    try:
        check_open_access(config, host)
    except ConfigError as error:
        return [each.location.line for each in error.problems if each.code == "open-door"]
    return []


@pytest.mark.parametrize(
    ("options", "environ", "host", "lines"),
    [
        ("{}", {}, "127.0.0.1", []),
        ("{}", {}, "0.0.0.0", [11, 14]),
        ("{}", {"PROXY_API_KEY": ""}, "0.0.0.0", [11, 14]),
        ("{}", {"PROXY_API_KEY": "key"}, "0.0.0.0", []),
        ("{keys: [a]}", {}, "0.0.0.0", [14]),
        ("{keys: ['']}", {}, "0.0.0.0", [11, 14]),
        ("{keys: []}", {"PROXY_API_KEY": "key"}, "0.0.0.0", [11]),
        ("{allow_anonymous: true}", {}, "0.0.0.0", [14]),
        ("{allow_anonymous: false, keys: [a]}", {}, "::", [14]),
    ],
    ids=[
        "loopback",
        "open",
        "empty-variable",
        "variable",
        "one-has-a-key",
        "empty-key",
        "no-keys-on-purpose",
        "one-is-meant-to-be-open",
        "ipv6",
    ],
)
def test_a_public_address_without_keys_is_a_problem(
    tmp_path: Path, options: str, environ: dict[str, str], host: str, lines: list[int]
) -> None:
    assert doors(config_of(tmp_path, options, **environ), host) == lines


def test_only_backends_referenced_by_models_are_used(tmp_path: Path) -> None:
    assert list(referenced_backends(config_of(tmp_path))) == ["here"]
    several = "some: {targets: [{backend: here}, {backend: there}]}"
    (tmp_path / "several.yaml").write_text(
        TEXT.replace("some: {backend: here}", several)
        .replace("vllm", "ollama")
        .replace("OPTIONS", "{}")
    )
    config = read(str(tmp_path / "several.yaml"), {})
    assert list(referenced_backends(config)) == ["here", "there"]
