"""`llm-proxy schema` accepts each config that `check` accepts, and refuses wrong shapes."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import jsonschema_rs
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from pipeline.config.builder import Builder
from pipeline.config.parsing import parse
from pipeline.config.structuring import make_converter
from pipeline.config.walk import option_fields
from proxy.cli import main
from proxy.config import SCHEMA, Server
from proxy.config_schema import for_editors
from stages import REGISTRY
from stages.backends.backend import Backend
from stages.backends.config import ModelTarget, TargetGroup
from stages.keys.config import Key
from stages.profiles.price import Price
from stages.profiles.profile import Overrides
from stages.routing.breaker import Breakers
from stages.routing.selection import When
from stages.shared_store.section import Store
from tests.cases import for_each
from tests.docs.pages import ROOT, Block, blocks
from tests.docs.test_yaml import KINDS, SECTIONS
from tests.pipeline.config.test_check_messages import CASES, ENVIRONMENT, sections, write

#: Problems of the shape of a file, and references, which the schema of a config knows.
SHAPE = {
    *("bad-option", "bad-route", "bad-stage", "missing-option", "no-pipelines"),
    *("unknown-option", "unknown-reference", "unknown-section", "unknown-stage"),
}
#: Cases with such a problem that the schema does not see, and why.
BEYOND_SHAPE = {
    **dict.fromkeys(
        ("backend-from-a-variable", "route-from-a-variable", "stage-from-a-variable"),
        "the value of a variable",
    ),
    "secret-in-base-url": "a URL is more than a pattern",
    **dict.fromkeys(
        (
            *("import-path-to-a-broken-module", "import-path-to-a-module-that-raises"),
            *("import-path-to-a-stage-without-attrs", "import-path-to-a-stage-without-types"),
            *("import-path-to-no-stage", "import-path-to-nothing"),
            *("import-path-without-class", "own-stage-for-an-unknown-section"),
            *("own-stage-that-fails", "own-stage-that-refuses-an-option"),
            *("own-stage-with-a-misspelt-annotation", "own-stage-with-an-impossible-type"),
        ),
        "the module, or what it does",
    ),
    "policy-that-would-do-nothing": "a policy depends on the other keys",
    "route-with-a-parameter-twice": "a pattern does not count",
    "keys-file-is-a-list": "another file",
}
#: An editor replaces the key `<<` by what it merges; `check` refuses it.
OF_THE_LOADER = {"merge-key", "merge-key-next-to-a-mistake"}


#: Wrong shapes that `check` reports as something else: an empty chain, a variable without a value.
UNDER_ANOTHER_CODE = {"no-stages", "problem-behind-an-alias", "variable-of-another-notation"}
NOT_YAML = {"yaml-syntax", "file-unreadable", "file-empty", "duplicate-key", "bad-name"}


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return for_editors(None)


@pytest.fixture(scope="module")
def validator(schema: dict[str, Any]) -> jsonschema_rs.Validator:
    return jsonschema_rs.Draft202012Validator(schema)


def plain(text: str) -> Any:
    """The values of a YAML text as JSON, variables unchanged, as an editor has them."""
    return json.loads(json.dumps(YAML(typ="safe", pure=True).load(text), default=str))


def test_it_is_a_schema_and_has_no_paths_and_no_secrets(schema: dict[str, Any]) -> None:
    jsonschema_rs.meta.validate(schema)

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert str(ROOT) not in json.dumps(schema)


@for_each("block", blocks(*KINDS), ids=str)
def test_each_yaml_of_the_docs_is_valid(block: Block, validator: jsonschema_rs.Validator) -> None:
    content = plain(block.text)
    if block.kind == "yaml fragment":
        content = {**json.loads(json.dumps(SECTIONS)), **content}

    assert not [error.message for error in validator.iter_errors(content)]


def test_the_shipped_config_is_valid(validator: jsonschema_rs.Validator) -> None:
    validator.validate(plain((ROOT / "pipelines.yaml").read_text()))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_it_refuses_what_check_refuses_for_its_shape(
    case: Path, tmp_path: Path, validator: jsonschema_rs.Validator
) -> None:
    *files, (_, output) = sections(case.read_text(encoding="utf-8"))
    for heading, body in files:
        write(heading, body, tmp_path)
    codes = set(re.findall(r"error\[([a-z-]+)\]", output))
    file = tmp_path / "pipelines.yaml"
    if codes & NOT_YAML or case.stem in OF_THE_LOADER or not file.exists():
        return

    if "unknown-reference" in codes or list(tmp_path.glob("*.py")):
        validator = jsonschema_rs.Draft202012Validator(for_editors(str(file)))
    refused = not validator.is_valid(plain(file.read_text()))

    expected = bool(codes & SHAPE) and case.stem not in BEYOND_SHAPE
    assert refused == (expected or case.stem in UNDER_ANOTHER_CODE)


def test_each_case_that_the_schema_does_not_see_exists() -> None:
    assert {*BEYOND_SHAPE, *OF_THE_LOADER, *UNDER_ANOTHER_CODE} <= {case.stem for case in CASES}


#: A value of each kind.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 1.5, 70000, "", "some text", "true", "1", [], ["a"], [1]),
    *({}, {"a": 1}, {"unknown": "drop"}, "none", "always"),
    *("2026-11-01", "2026-11", "nonsense", "https://a.example/v1", "ftp://a.example", "a" * 64),
    *("/health", "http://a/b", "a b", " a", "é", ["https://a.example"], ["a/b"], ["id", "role"]),
    *({"x-name": "a"}, {"x name": "a"}, {"x-name": "é"}, {"model": "a"}),
    *("2027-01-31T18:00:00Z", "20270131", "redis://127.0.0.1:6379/0", "valkeys://h", "redis:h"),
)
#: Values that an option's own validator refuses. The schema has types, choices and bounds.
OF_VALIDATORS = re.compile("cannot be `|is always `map`|means nothing|must not be|`tags` is empty")
CONVERTER = make_converter()
SCHEMA.register_hooks(CONVERTER)


def check(kind: Any, options: dict[str, Any]) -> list[str]:
    """The messages of `check` about options of a class."""
    builder = Builder(parse(json.dumps(options), {}), CONVERTER, SCHEMA.option_classes)
    sections: dict[str, Any] = {}
    if isinstance(kind, type) and attrs.has(kind):
        fields = [field for field in attrs.fields(kind) if "section" in field.metadata]
        sections = {field.name: {} for field in fields}
    builder.build({**builder.document.value, **sections}, kind, ("part",))
    return [p.message for p in builder.problems if p.code != "unknown-reference"]


def differences(
    kind: Any, base: dict[str, Any], names: Iterable[str], validator: jsonschema_rs.Validator
) -> Iterator[tuple[str, Any, list[str]]]:
    """Yield the values of options that `check` and `validator` judge differently."""
    for name in names:
        for value in VALUES:
            options = {**base, name: value}
            messages = check(kind, options)
            accepted = validator.is_valid(options)
            beyond = bool(messages) and all(map(OF_VALIDATORS.search, messages))
            if accepted == bool(messages) and not (accepted and beyond):
                yield name, value, messages


def validator_of(schema: dict[str, Any], definition: str) -> jsonschema_rs.Validator:
    part = {"$ref": f"#/$defs/{definition}", "$defs": schema["$defs"]}
    return jsonschema_rs.Draft202012Validator(part)


@for_each(
    ("kind", "base"),
    [
        (Server, {}),
        (Breakers, {}),
        (Backend, {"profile": "ollama"}),
        (Overrides, {}),
        (ModelTarget, {"backend": "here"}),
        (TargetGroup, {"targets": [{"backend": "here"}]}),
        (When, {"tools": True}),
        (Price, {"input": 1}),
        (Key, {"sha256": "0" * 64}),
        (Store, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_judges_each_value_of_each_option_as_check_does(
    kind: Any, base: dict[str, Any], schema: dict[str, Any]
) -> None:
    names = [*option_fields(SCHEMA.option_classes.get(kind, kind), {}), "no_such_option"]

    assert not list(differences(kind, base, names, validator_of(schema, kind.__name__)))


@for_each("name", REGISTRY.builtin)
def test_it_judges_the_options_of_a_stage_as_check_does(name: str, schema: dict[str, Any]) -> None:
    cls = REGISTRY.get(name)
    names = [*option_fields(cls, {}), "no_such_option"]

    assert not list(differences(cls, {}, names, validator_of(schema, name)))


def test_it_accepts_a_variable_for_each_scalar(schema: dict[str, Any]) -> None:
    port = validator_of(schema, "Server")

    assert port.is_valid({"port": "${PORT:-8080}", "reload": "${RELOAD}", "host": "${HOST}"})
    assert not port.is_valid({"port": "8080"})
    assert not port.is_valid({"allowed_hosts": "${HOSTS}"})
    assert port.is_valid({"allowed_origins": ["${ORIGIN}"]})
    assert validator_of(schema, "Price").is_valid({"input": 1, "since": "${DAY:-2026-11-01}"})
    assert validator_of(schema, "Backend").is_valid({"profile": "${PROFILE}"})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with contextlib.chdir(tmp_path):
        yield tmp_path


def run(*arguments: str) -> Any:
    return CliRunner(env=ENVIRONMENT).invoke(main, ["schema", *arguments])


CONFIG = """\
backends:
  here: {profile: ollama}
models:
  "claude-*": {backend: here}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      - authenticate
      - schema_stages:Limit: {tokens: 5}
      - other_stages:Unknown: {anything: [1]}
      - resolve: {default: claude-*}
"""
STAGE = '''
from attrs import frozen, validators
from pipeline import Stage, option
from stages.events import Authenticated

@frozen
class Limit(Stage[Authenticated, Authenticated]):
    """Limit the tokens.

    More about it.
    """

    tokens: int = option(help="tokens per minute", validator=validators.gt(0))
'''


def test_with_a_config_it_knows_the_names_and_stages_in_it(folder: Path) -> None:
    (folder / "schema_stages.py").write_text(STAGE)
    (folder / "mine.yaml").write_text(CONFIG)
    result = run("--config", "mine.yaml")
    assert result.exit_code == 0

    validator = jsonschema_rs.Draft202012Validator(json.loads(result.stdout))

    def valid(old: str, new: str) -> bool:
        assert old in CONFIG
        return validator.is_valid(plain(CONFIG.replace(old, new)))

    assert valid("tokens: 5", "tokens: 6")
    assert valid("backend: here", 'backend: "${WHICH}"')
    assert not valid("backend: here", "backend: there")
    assert not valid("default: claude-*", "default: claude")
    assert not valid("{tokens: 5}", "{token: 5}")
    assert not valid("{tokens: 5}", "{tokens: 0}")
    assert not valid("schema_stages:Limit: {tokens: 5}", "schema_stages:Limit")
    assert "Limit the tokens." in result.stdout
    assert "tokens per minute" in result.stdout


def test_a_config_with_mistakes_is_good_enough(folder: Path) -> None:
    (folder / "mine.yaml").write_text("backends: [a]\nmodels: 1\npipelines: {a: {stages: 5}, b: }")

    result = run("--config", "mine.yaml")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["$defs"]["ModelTarget"]


@pytest.mark.parametrize("text", [None, "a: [", "a: 1\n---\n"], ids=["absent", "syntax", "more"])
def test_a_config_that_cannot_be_read_is_reported(folder: Path, text: str | None) -> None:
    if text is not None:
        (folder / "mine.yaml").write_text(text)

    result = run("--config", "mine.yaml")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "mine.yaml:" in result.stderr
    assert result.stderr.endswith("1 problem\n")
