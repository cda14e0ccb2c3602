"""The stage contract: the types and options of a class, and its start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import attrs
import pytest
from attrs import frozen, validators

from pipeline import Send, Stage, option, reference, section
from pipeline.config.options import OptionError
from pipeline.stage import Signature, signature
from tests.cases import for_each
from tests.pipeline.support import Begin, Cache, End, Event, Middle, Start, Tap

T = TypeVar("T")
Bound = TypeVar("Bound", bound=Event)
EitherBound = TypeVar("EitherBound", bound=Start | Middle)
OneOf = TypeVar("OneOf", Start, Middle)


class Anywhere(Stage[T, T]):
    pass


class OnEvents(Stage[Bound, Bound]):
    pass


class OnEither(Stage[EitherBound, EitherBound]):
    pass


class OnOneOf(Stage[OneOf, OneOf]):
    pass


class Ends(Stage[T, End]):
    pass


class Generalised(Stage[Start, T]):
    pass


class Filled(Anywhere[Middle]):
    pass


class FilledLater(Generalised[End]):
    pass


class Pair(Stage[T, Bound], Generic[Bound, T]):
    pass


class FilledPair(Pair[End, Start]):
    pass


class Inherited(Begin):
    pass


class Bare(Stage):  # type: ignore[type-arg]
    pass


class Nameless(Stage["Start", "Middle"]):
    pass


class Listed(Stage[list[Start], Middle]):
    pass


@for_each(
    ("stage", "config"),
    [
        (Begin, Signature((Start,), (Middle,))),
        (Inherited, Signature((Start,), (Middle,))),
        (Cache, Signature((Start,), (Start, End))),
        (Anywhere, Signature((object,), (object,), transparent=True)),
        (OnEvents, Signature((Event,), (Event,), transparent=True)),
        (OnEither, Signature((Start, Middle), (Start, Middle), transparent=True)),
        (OnOneOf, Signature((Start, Middle), (Start, Middle), transparent=True)),
        (Ends, Signature((object,), (End,))),
        (Filled, Signature((Middle,), (Middle,))),
        (FilledLater, Signature((Start,), (End,))),
        (FilledPair, Signature((Start,), (End,))),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_the_class_says_what_it_accepts_and_emits(stage: Any, config: Signature) -> None:
    assert signature(stage) == config


@for_each(
    ("stage", "words"),
    [
        (Bare, "Bare does not say what it accepts and emits"),
        (Nameless, "an event type must be a class, not .*Start"),
        (Listed, r"an event type must be a class, not list\[.*Start\]"),
        (Generalised, "an event type must be a class, not ~T"),
        (Stage, "Stage does not say"),
    ],
    ids=["bare", "strings", "generic", "one-sided", "Stage"],
)
def test_a_class_that_does_not_say_it_is_refused(stage: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        signature(stage)


async def forget(event: Any) -> None:
    raise AssertionError("unreachable")


async def test_a_stage_that_overrides_nothing_says_so() -> None:
    @frozen
    class Idle(Stage[Start, Middle]):
        pass

    async with Idle().open(forget) as receive:
        with pytest.raises(TypeError, match="Idle overrides none of handle, receiver and open"):
            await receive(Start())


async def test_without_open_of_its_own_a_stage_is_opened_with_handle() -> None:
    arrived = []

    async def keep(event: Middle) -> None:
        arrived.append(event)

    async with Begin().open(keep) as receive:
        await receive(Start("a"))
        await receive(Start("b"))

    assert arrived == [Middle("a"), Middle("b")]


def test_stages_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Tap().name = "other"  # type: ignore[misc]


def test_each_kind_of_field_is_marked() -> None:
    @frozen
    class Whole(Stage[Start, Middle]):
        everything: Mapping[str, Any] = section("things")
        words: tuple[str, ...] = option((), help="which words", variable="WORDS")
        default: str | None = reference("things", None, help="the usual thing")

        async def handle(self, event: Start, forward: Send[Middle]) -> None:
            raise AssertionError("unreachable")

    everything, words, default = attrs.fields(Whole)

    assert everything.metadata == {"section": "things"}
    assert (words.metadata["help"], words.metadata["variable"]) == ("which words", "WORDS")
    assert default.metadata == {"reference": "things", "help": "the usual thing"}


def refuse(instance: Any, attribute: Any, value: Any) -> None:
    raise OptionError("elsewhere", "it is the other one", "look there")


def refuse_wordlessly(instance: Any, attribute: Any, value: Any) -> None:
    raise ValueError


@for_each(
    ("validator", "name", "message"),
    [
        (validators.gt(3), "number", "`number` must be > 3: 3"),
        ([validators.ge(3), validators.lt(3)], "number", "`number` must be < 3: 3"),
        (validators.in_([1, 2]), "number", "`number` must be in [1, 2] (got 3)"),
        (refuse, "elsewhere", "it is the other one"),
        (refuse_wordlessly, "number", ""),
    ],
    ids=["one", "several", "error-of-many-arguments", "names-another", "no-words"],
)
def test_a_validator_of_an_option_says_which_one_is_wrong(
    validator: Any, name: str, message: str
) -> None:
    @frozen
    class Numbered:
        number: int = option(validator=validator)

    with pytest.raises(OptionError) as caught:
        Numbered(3)

    assert (caught.value.option, str(caught.value)) == (name, message)


def test_a_value_that_is_valid_stays() -> None:
    @frozen
    class Numbered:
        number: int = option(5, validator=[validators.gt(3), validators.lt(9)])

    assert (Numbered().number, Numbered(8).number) == (5, 8)
