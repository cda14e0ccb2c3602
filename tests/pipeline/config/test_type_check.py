"""The order of stages by their types, and the report of a wrong order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import pytest
from attrs import frozen

from pipeline import Stage
from pipeline.config.problems import Location, Problem
from pipeline.config.registry import StageClass
from pipeline.config.type_check import check_chain, spell
from pipeline.stage import Signature, types_after
from tests.cases import for_each
from tests.pipeline.support import (
    Begin,
    Cache,
    End,
    Event,
    Finish,
    Middle,
    NarrowMiddle,
    Start,
    Tap,
    step,
)

OnMiddle = TypeVar("OnMiddle", bound=Middle)


@frozen
class Redact(Stage[OnMiddle, OnMiddle]):
    """Fits wherever Middle is carried."""


@frozen
class Narrow(Stage[NarrowMiddle, NarrowMiddle]):
    """Cares for one kind of Middle."""


@frozen
class Shortcut(Stage[Start, End]):
    """From the start to the end."""


@frozen
class Other(Stage[int, int]):
    """Belongs to nothing here."""


KNOWN: Mapping[str, StageClass] = {"tap": Tap, "begin": Begin, "finish": Finish}


def check(*stages: StageClass, known: Mapping[str, StageClass] = KNOWN) -> Problem | None:
    """Stages one a line, from line 1."""
    steps = [step(stage, line) for line, stage in enumerate(stages, 1)]
    return check_chain("p", steps, Start, End, Location(100, 1), lambda: known)


@for_each(
    "stages",
    [
        (Begin, Finish),
        (Tap, Begin, Tap, Finish, Tap),
        (Begin, Redact, Finish),
        (Begin, Narrow, Finish),
        (Cache, Begin, Finish),
        (Begin, Redact, Redact, Finish),
        (Shortcut,),
    ],
    ids=lambda stages: "-".join(stage.__name__ for stage in stages),
)
def test_a_chain_that_fits_is_in_order(stages: Any) -> None:
    assert check(*stages) is None


@for_each(
    ("stages", "line", "words", "hint"),
    [
        ((Finish, Begin), 1, "`finish` accepts Middle, .* carries Start", "move `begin` (line 2)"),
        ((Finish,), 1, "carries Start", "add `begin` before `finish`"),
        ((Begin, Begin), 2, "carries Middle", "remove it: `begin` is already in line 1"),
        ((Begin, Finish, Redact), 3, "carries End", "move `redact` to just after `begin`"),
        ((Redact, Begin, Finish), 1, "carries Start", "move `begin` (line 2) before `redact`"),
        ((Begin, Other), 2, "`other` accepts int", "`llm-proxy stages` shows"),
        ((Cache, Finish), 2, "carries End or Start", "add `begin` before `finish`"),
        ((Begin,), 1, "ends with Middle, but must end with End", "add `finish` after `begin`"),
        ((Cache, Begin), 2, "ends with Middle", "add `finish` after `begin`"),
        ((Tap,), 1, "ends with Start", "add `begin` after `tap`"),
        ((), 100, "pipeline `p` has no stages", "begin with `begin`"),
    ],
    ids=[
        "swapped",
        "one-is-missing",
        "twice",
        "too-late",
        "too-early",
        "foreign",
        "behind-a-cache",
        "no-end",
        "one-way-has-no-end",
        "only-transparent",
        "empty",
    ],
)
def test_the_first_stage_that_does_not_fit_is_reported(
    stages: Any, line: int, words: str, hint: str
) -> None:
    problem = check(*stages)

    assert problem is not None
    assert problem.location.line == line
    assert problem.hint.startswith(hint)
    assert re.search(words, problem.message)


def test_all_that_could_go_on_are_reported() -> None:
    problem = check(known={"shortcut": Shortcut, "begin": Begin, "finish": Finish})

    assert problem is not None
    assert problem.hint == "begin with `shortcut` or `begin`"


def test_without_a_stage_to_add_the_wrong_end_is_reported() -> None:
    problem = check(Begin, known={})

    assert problem is not None
    assert (problem.code, problem.hint) == ("chain-end", "add stages that lead to it")


@pytest.mark.parametrize("handled", [False, True])
def test_a_stage_whose_own_events_nothing_handles_is_to_be_removed(handled: bool) -> None:
    """As `limit` in a pipeline for `count-tokens`, where pings have no place."""

    @frozen
    class Wait(Stage[Middle, Middle | int]):
        pass

    @frozen
    class Ping(Stage[int, End]):
        pass

    known: dict[str, StageClass] = {"ping": Ping, "begin": Begin}
    problem = check(Begin, Wait, Finish, *([Ping] if handled else []), known=known)

    if handled:
        assert problem is None
    else:
        assert problem is not None
        assert problem.hint == "remove `wait`: no stage after it accepts int"


def test_of_two_stages_to_add_the_one_that_fits_is_named_first() -> None:
    @frozen
    class FromNowhere(Stage[int, Middle]):
        pass

    problem = check(Finish, known={"from-nowhere": FromNowhere, "begin": Begin})

    assert problem is not None
    assert problem.hint == "add `begin` before `finish`"


def test_a_stage_that_emits_the_missing_event_is_named() -> None:
    @frozen
    class FromNowhere(Stage[int, Middle]):
        pass

    problem = check(Finish, known={"other": Other, "from-nowhere": FromNowhere})

    assert problem is not None
    assert problem.hint == "add `from-nowhere` before `finish`"


def test_a_chain_in_order_asks_for_no_hints() -> None:
    def known() -> Mapping[str, StageClass]:
        raise AssertionError("unreachable")

    steps = [step(Begin), step(Finish)]

    assert check_chain("p", steps, Start, End, Location(), known) is None


@for_each(
    ("before", "accepts", "emits", "transparent", "after"),
    [
        ({Start}, (Start,), (Middle,), False, {Middle}),
        ({Start}, (Middle,), (End,), False, None),
        ({Start, Middle}, (Middle,), (End,), False, {Start, End}),
        ({Start}, (Start,), (Start, End), False, {Start, End}),
        ({NarrowMiddle}, (Middle,), (End,), False, {End}),
        ({Middle}, (NarrowMiddle,), (End,), False, {Middle, End}),
        ({Middle}, (NarrowMiddle, Start), (End,), False, {Middle, End}),
        ({Start, Middle}, (Event,), (Event,), True, {Start, Middle}),
        ({Start}, (object,), (object,), True, {Start}),
        ({Start}, (Middle,), (Middle,), True, None),
        ({Start}, (object,), (End,), False, {End}),
    ],
    ids=[
        "all",
        "none",
        "some",
        "keeps-some",
        "subclass",
        "only-a-subclass",
        "a-subclass-or-another",
        "transparent",
        "transparent-for-all",
        "transparent-for-none",
        "a-sink",
    ],
)
def test_events_are_carried_past_a_stage(
    before: Any, accepts: Any, emits: Any, transparent: bool, after: Any
) -> None:
    assert types_after(before, Signature(accepts, emits, transparent)) == after


def test_events_are_spelt_in_the_order_of_their_names() -> None:
    assert spell({Start, End, Middle}) == "End or Middle or Start"
