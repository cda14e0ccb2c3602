"""A stage as `llm-proxy stages` shows it."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import pytest
from attrs import Factory, frozen

from pipeline import Stage, option, reference, section
from pipeline.config.describe import describe_stage
from tests.pipeline.support import Begin, Cache, Event, Middle, Start, Tap

T = TypeVar("T")
OnEvent = TypeVar("OnEvent", bound=Event)


@frozen
class When:
    size: float = option(0.5, help="the size")
    on: bool | None = True


@frozen
class Rule:
    when: When
    to: Any


@frozen
class Many(Stage[Start, Middle]):
    """Does many things.

    It does them
      in order.
    """

    things: dict[str, Any] = section("things")
    word: str = option(help="the word")
    numbers: tuple[int, ...] = option((1, 2), help="the numbers")
    choice: Literal["a", "b"] = "a"
    names: dict[str, str] = Factory(dict)
    default: str | None = reference("things", None, help="the usual thing")
    rules: tuple[Rule, ...] = ()


@frozen
class Anywhere(Stage[T, T]):
    """Fits anywhere."""


@frozen
class OnEvents(Stage[OnEvent, OnEvent]):
    """Fits on events."""


@frozen
class Wordless(Stage[Start, Middle]):
    pass


def test_a_stage_is_described_with_its_events_and_options() -> None:
    assert describe_stage("many", Many) == (
        "many: Start -> Middle\n"
        "  Does many things.\n"
        "\n"
        "  It does them\n"
        "    in order.\n"
        "    word (text; required): the word\n"
        "    numbers (list of whole numbers; default: [1, 2]): the numbers\n"
        "    choice (one of a, b; default: a)\n"
        "    names (mapping of names to texts; default: {})\n"
        "    default (text, or null; default: null): the usual thing\n"
        "    rules (list of mappings; default: [])\n"
        "      when (mapping; required)\n"
        "        size (number; default: 0.5): the size\n"
        "        on (true or false, or null; default: true)\n"
        "      to (any value; required)\n"
    )


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        (Begin, "it: Start -> Middle"),
        (Cache, "it: Start -> Start or End"),
        (Anywhere, "it: anything -> the same"),
        (OnEvents, "it: Event -> the same"),
    ],
    ids=["one", "several", "anything", "bound"],
)
def test_its_events_are_spelt(stage: Any, line: str) -> None:
    assert describe_stage("it", stage).splitlines()[0] == line


def test_without_words_there_is_only_its_line() -> None:
    assert describe_stage("it", Wordless) == "it: Start -> Middle\n"


def test_a_stage_that_may_be_anywhere_has_options_too() -> None:
    assert describe_stage("tap", Tap).splitlines()[2:] == [
        "    name (text; default: tap)",
        "    log (list of texts; default: [])",
    ]
