"""Loading a file: which text is read, from where, and which problems are reported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from cattrs import Converter

from pipeline.config.load import load
from pipeline.config.problems import ConfigError, Location
from pipeline.config.schema import Schema
from tests.pipeline.support import SCHEMA, End, Start, Thing, load_config, problems

PIPELINES = "pipelines: {p: {route: GET /, stages: [begin, finish]}}\n"


def refusal(file: Path | str, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(file, SCHEMA, environ)
    return caught.value


def test_the_config_keeps_its_file_and_its_text(tmp_path: Path) -> None:
    config = load_config(tmp_path, PIPELINES)

    assert config.file == str(tmp_path / "pipelines.yaml")
    assert config.source == PIPELINES


def test_the_file_is_named_as_it_was_given(tmp_path: Path) -> None:
    name = os.path.relpath(tmp_path / "absent.yaml")

    assert str(refusal(name)).startswith(f"{name}:1:1: error[file-absent]")


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda file: None, "file-absent", "there is no such file"),
        (lambda file: file.mkdir(), "file-unreadable", "the file cannot be read: Is a directory"),
        (lambda file: file.write_bytes(b"a: 1\nb: \xff"), "file-unreadable", "not UTF-8 text"),
        (lambda file: file.write_bytes("a: 1".encode("utf-16")), "file-unreadable", "not UTF-8"),
        (lambda file: file.write_text(""), "file-empty", "the file is empty"),
        (lambda file: file.write_text("# only words\n"), "file-empty", "the file is empty"),
        (lambda file: file.write_text("text"), "bad-option", "expected sections, got the text"),
        (lambda file: file.write_text("[]"), "bad-option", "expected sections, got a list"),
        (lambda file: file.write_text("a: ["), "yaml-syntax", "this is not valid YAML"),
    ],
    ids=[
        "absent",
        "directory",
        "not-utf-8",
        "utf-16",
        "empty",
        "comment",
        "text",
        "list",
        "not-yaml",
    ],
)
def test_a_file_that_is_no_config_is_reported(
    tmp_path: Path, make: Any, code: str, words: str
) -> None:
    file = tmp_path / "some.yaml"
    make(file)

    (problem,) = refusal(file).problems
    assert problem.code == code
    assert words in problem.message
    assert problem.hint


def test_text_that_is_not_utf8_is_reported_at_its_place(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    file.write_bytes("a: 1\nü: ".encode() + b"\xff\n")

    (problem,) = refusal(file).problems
    assert problem.location == Location(2, 4)


def test_a_byte_order_mark_and_any_line_ends_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "some.yaml"
    text = "things:\r\n  one: {}\r\n" + PIPELINES.replace("\n", "\r\n")
    file.write_bytes(b"\xef\xbb\xbf" + text.encode())

    assert load(file, SCHEMA, {}).sections["things"] == {"one": Thing()}


def test_an_unknown_section_is_reported(tmp_path: Path) -> None:
    assert problems(tmp_path, f"thigns: {{}}\n{PIPELINES}") == [
        (1, 1, "unknown-section", "there is no section `thigns`")
    ]


def test_all_problems_are_reported_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
settings: {nme: x}
things: {one: {size: big}, two: {base: three}}
pipelines:
  p: {route: /, stages: [finish, begin]}
more: 1
"""

    assert [(line, code) for line, _, code, _ in problems(tmp_path, text)] == [
        (1, "unknown-option"),
        (2, "bad-option"),
        (2, "unknown-reference"),
        (4, "bad-route"),
        (4, "chain-order"),
        (5, "unknown-section"),
    ]


WITH_VARIABLE = f"settings: {{name: '${{NAME}}'}}\n{PIPELINES}"


@pytest.mark.parametrize(
    ("file", "environ", "name"),
    [
        ("NAME=from file\n", {}, "from file"),
        ("NAME=from file\n", {"NAME": "from environment"}, "from environment"),
        ("export NAME='quoted # value'\n", {}, "quoted # value"),
        ("# a comment\n\nNAME=äöü\n", {}, "äöü"),
        ("this is nothing\nNAME=x\n", {}, "x"),
    ],
    ids=["file", "environment-first", "quoted", "utf-8", "nonsense-before"],
)
def test_variables_come_from_the_environment_and_from_dotenv(
    tmp_path: Path, file: str, environ: dict[str, str], name: str
) -> None:
    (tmp_path / ".env").write_text(file, encoding="utf-8")

    assert load_config(tmp_path, WITH_VARIABLE, **environ).sections["settings"].name == name


@pytest.mark.parametrize("file", ["", "NAME\n", "NAME=\n", "OTHER=x\n"])
def test_a_variable_without_a_value_is_missing(tmp_path: Path, file: str) -> None:
    (tmp_path / ".env").write_text(file)

    assert [code for _, _, code, _ in problems(tmp_path, WITH_VARIABLE)] == ["missing-variable"]


def test_a_directory_called_env_is_no_file_of_variables(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()

    assert load_config(tmp_path, PIPELINES).pipelines


def test_variables_next_to_what_a_link_leads_to_are_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "some.yaml").write_text(WITH_VARIABLE)
    (tmp_path / "real" / ".env").write_text("NAME=x\n")
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "real" / "some.yaml")

    assert load(link, SCHEMA, {}).sections["settings"].name == "x"


def test_only_the_file_of_variables_next_to_the_config_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".env").write_text("NAME=elsewhere\n")
    monkeypatch.chdir(elsewhere)

    assert [code for _, _, code, _ in problems(tmp_path, WITH_VARIABLE)] == ["missing-variable"]


def test_a_dotenv_file_that_is_not_utf8_is_reported_not_quoted(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_bytes(b"KEY=s3cret\nNAME=\xe4\n")
    (tmp_path / "pipelines.yaml").write_text(PIPELINES)

    error = refusal(tmp_path / "pipelines.yaml")

    assert str(error).startswith(f"{tmp_path / '.env'}:2:6: error[file-unreadable]")
    assert "s3cret" not in str(error)


def test_the_environment_of_the_process_is_not_looked_at(tmp_path: Path) -> None:
    assert os.environ["PATH"]

    text = WITH_VARIABLE.replace("NAME", "PATH")

    assert [code for _, _, code, _ in problems(tmp_path, text)] == ["missing-variable"]


def test_the_caller_may_teach_the_converter_types(tmp_path: Path) -> None:
    def register(converter: Converter) -> None:
        converter.register_structure_hook(complex, lambda value, _: complex(value))

    schema = Schema(
        sections={"number": complex},
        registry=SCHEMA.registry,
        start=Start,
        end=End,
        register_hooks=register,
    )
    file = tmp_path / "some.yaml"
    file.write_text(f"number: '1+2j'\n{PIPELINES}")

    assert load(file, schema, {}).sections["number"] == 1 + 2j


SECRET = "s3cret-\\n'\"{value}"


@pytest.mark.parametrize(
    "text",
    [
        "settings: {port: '${KEY}'}",
        "settings: {port: ['${KEY}']}",
        "settings: '${KEY}'",
        "settings: ['${KEY}']",
        "settings:\n  port: ${KEY}",
        "settings:\n  port: x${KEY}",
        "things: {one: '${KEY}'}",
        "things: {one: {base: '${KEY}'}}",
        "things: {one: {needs: '${KEY}'}, two: {base: one}}",
        "pipelines: '${KEY}'",
        "pipelines: {p: '${KEY}'}",
        "pipelines: {p: {route: '${KEY}', stages: [begin, finish]}}",
        "pipelines: {p: {route: ['${KEY}', '${KEY}'], stages: [begin, finish]}}",
        "pipelines: {p: {route: GET /, stages: '${KEY}'}}",
        "pipelines: {p: {route: GET /, stages: ['${KEY}']}}",
        "pipelines: {p: {route: GET /, stages: [begin: '${KEY}']}}",
        "pipelines: {p: {route: GET /, stages: [pick-one: {default: '${KEY}'}]}}",
        "pipelines: {p: {route: GET /, stages: [pick-one: {others: ['${KEY}']}]}}",
        "pipelines: {p: {route: GET /, stages: [pick-one: {others: '${KEY}'}]}}",
        "pipelines: {p: {route: GET /, stages: [pick-one: {limit: '${KEY}'}]}}",
        "'${KEY}': 1",
        "settings: {'${KEY}': 1}",
    ],
)
def test_no_message_shows_what_comes_from_the_environment(tmp_path: Path, text: str) -> None:
    file = tmp_path / "some.yaml"
    file.write_text(text)

    reported = str(refusal(file, KEY=SECRET))

    assert "s3cret" not in reported
    assert "{value}" not in reported
