"""Entries of sections: built, referred to, left out when they are not used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attrs import Factory, frozen

from pipeline import option, reference, section
from pipeline.config.builder import Builder, references
from pipeline.config.parsing import parse
from tests.cases import for_each
from tests.pipeline.support import Settings, Thing, load_config, problems

PIPELINE = """\
pipelines:
  p:
    route: GET /
    stages: [pick-one: {default: one}, finish]
"""


def things(text: str) -> str:
    return f"things:\n  one: {{}}\n{text}{PIPELINE}"


def test_sections_are_built(tmp_path: Path) -> None:
    config = load_config(tmp_path, "settings: {name: x}\n" + things("  two: {size: 2}\n"))

    assert config.sections == {
        "settings": Settings("x"),
        "things": {"one": Thing(), "two": Thing(2)},
    }
    assert not config.notes


def test_a_section_that_is_absent_has_its_defaults(tmp_path: Path) -> None:
    text = "settings:\npipelines: {p: {route: GET /, stages: [begin, finish]}}"

    assert load_config(tmp_path, text).sections == {"settings": Settings(), "things": {}}


def test_a_reference_to_nothing_is_reported(tmp_path: Path) -> None:
    text = things("  two: {base: on}\n").replace("default: one", "others: [one, three]")

    assert problems(tmp_path, text) == [
        (3, 15, "unknown-reference", "there is no entry `on` in `things`"),
        (7, 39, "unknown-reference", "there is no entry `three` in `things`"),
    ]


def test_a_reference_into_a_broken_section_is_reported(tmp_path: Path) -> None:
    matches = problems(tmp_path, f"things: [one]\n{PIPELINE}")

    assert [(line, code) for line, _, code, _ in matches] == [(1, "bad-option")]


@for_each(
    "text",
    [
        f"things: {{<<: {{one: {{}}}}}}\n{PIPELINE}",
        f"<<: {{things: {{one: {{}}}}}}\n{PIPELINE}",
        "<<: {pipelines: {p: {}}}",
        "pipelines: {<<: {p: {}}}",
    ],
    ids=["an entry", "a section", "the pipelines", "a pipeline"],
)
def test_consequences_of_a_merge_key_are_not_reported(text: str, tmp_path: Path) -> None:
    matches = problems(tmp_path, text)

    assert [(line, code) for line, _, code, _ in matches] == [(1, "merge-key")]


UNSET = "  two:\n    size: ${SIZE}\n    base: '${BASE}'\n"


def test_an_unused_entry_may_lack_its_variables(tmp_path: Path) -> None:
    config = load_config(tmp_path, things(UNSET))

    (note,) = config.notes
    assert (note.severity, note.location.line, note.hint) == ("note", 3, "")
    assert note.message == (
        "`two` is not used, and cannot be: "
        "the environment variable SIZE is not set or is empty; "
        "the environment variable BASE is not set or is empty"
    )
    assert list(config.sections["things"]) == ["one"]


def test_a_used_entry_may_not_lack_its_variables(tmp_path: Path) -> None:
    text = things(UNSET).replace("default: one", "default: two")

    assert problems(tmp_path, text) == [
        (4, 11, "missing-variable", "the environment variable SIZE is not set or is empty"),
        (5, 11, "missing-variable", "the environment variable BASE is not set or is empty"),
    ]


def test_with_its_variables_it_is_there(tmp_path: Path) -> None:
    config = load_config(tmp_path, things(UNSET), SIZE="7", BASE="one")

    assert config.sections["things"]["two"] == Thing(7, "one")
    assert not config.notes


def test_an_unusable_entry_is_a_note_with_its_hint(tmp_path: Path) -> None:
    config = load_config(tmp_path, things("  two: {needs: a GPU}\n"))

    (note,) = config.notes
    assert note.message == "`two` is not used, and cannot be: it needs a GPU"
    assert (note.code, note.hint, note.location.line) == ("unavailable", "get a GPU", 3)
    assert list(config.sections["things"]) == ["one"]


def test_an_unusable_entry_is_an_error_where_it_is_used(tmp_path: Path) -> None:
    text = things("  two: {needs: a GPU}\n").replace("default: one", "others: [two]")

    assert problems(tmp_path, text) == [(3, 3, "unavailable", "it needs a GPU")]


def test_a_mistake_in_an_unused_entry_is_an_error(tmp_path: Path) -> None:
    assert problems(tmp_path, things("  two: {size: big}\n")) == [
        (3, 15, "bad-option", "`size`: expected a whole number, got the text 'big'")
    ]


def test_variables_missing_outside_of_entries_are_errors(tmp_path: Path) -> None:
    options = "default: one, keys: ['${KEY}'], limit: '${LIMIT}'"
    text = "settings: {name: '${NAME}', port: '${PORT}'}\n" + things("")
    text = text.replace("default: one", options)

    assert [message.split()[3] for *_, message in problems(tmp_path, text)] == [
        "NAME",
        "PORT",
        "KEY",
        "LIMIT",
    ]


def test_consequences_of_a_missing_variable_are_not_reported(tmp_path: Path) -> None:
    text = "settings:\n  port: ${PORT}\n" + things("")

    assert [code for _, _, code, _ in problems(tmp_path, text)] == ["missing-variable"]


def test_consequences_of_a_broken_variable_are_not_reported(tmp_path: Path) -> None:
    text = "settings:\n  port: '${PO RT}'\n" + things("")

    assert [code for _, _, code, _ in problems(tmp_path, text)] == ["bad-variable"]


def test_a_type_that_yaml_cannot_give_is_reported() -> None:
    @frozen
    class Impossible:
        size: int | str

    builder = Builder(parse("it: {size: 1}", {}))

    assert builder.build({"size": 1}, Impossible, ("it",)) is None
    (problem,) = builder.problems
    assert problem.message.startswith(
        "`it` has an option of a type that cannot come from YAML: Unsupported type: int | str"
    )


@frozen
class Nested:
    ones: tuple[Thing, ...] = ()
    named: dict[str, Thing] = Factory(dict)
    plain: int = 1


@frozen
class Referring:
    everything: Any = section("things")
    one: str | None = reference("things", None)
    several: tuple[str, ...] = reference("others", ())
    by_name: dict[str, str] = reference("things", Factory(dict))
    nested: Nested = Factory(Nested)
    word: str = option("word")


@for_each(
    ("built", "expected"),
    [
        (Referring(None), []),
        (Referring(None, one="a"), [(("x", "one"), "things", "a")]),
        (
            Referring(None, several=("a", "b")),
            [(("x", "several", 0), "others", "a"), (("x", "several", 1), "others", "b")],
        ),
        (Referring(None, by_name={"k": "a"}), [(("x", "by_name", "k"), "things", "a")]),
        (
            Referring(None, nested=Nested((Thing(), Thing(base="a")))),
            [(("x", "nested", "ones", 1, "base"), "things", "a")],
        ),
        (
            Referring(None, nested=Nested(named={"k": Thing(base="a")})),
            [(("x", "nested", "named", "k", "base"), "things", "a")],
        ),
        (Referring({"k": Thing(base="a")}), []),
        ({"k": Thing(base="a")}, [(("x", "k", "base"), "things", "a")]),
        (None, []),
    ],
    ids=[
        "none",
        "one",
        "several",
        "by-name",
        "in-a-list",
        "in-a-mapping",
        "not-in-a-section",
        "top",
        "nothing",
    ],
)
def test_references_are_found_anywhere(built: Any, expected: Any) -> None:
    assert list(references(built, ("x",))) == expected
