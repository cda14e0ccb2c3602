"""The order of calls in the fair queue."""

from __future__ import annotations

import pytest
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from stages.backends.fair_queue import FairQueue

LONG, SHORT = False, True
ME = ("key-1", "one")


def order(turns: FairQueue[str], first: str) -> list[str]:
    """Those that begin, one by one, as soon as the one before is over."""
    begun = [first]
    while following := turns.leave(begun[-1]):
        begun += following
    return begun[1:]


def waiting(*calls: tuple[str, str, bool]) -> list[str]:
    """The order of calls that came as `key/session`, name, short, at a backend with one slot."""
    turns: FairQueue[str] = FairQueue(1)
    assert turns.enter("first", ("first", ""), LONG)
    for path, name, short in calls:
        key, _, session = path.partition("/")
        assert not turns.enter(name, (key, session), short)
    return order(turns, "first")


def test_as_many_run_as_there_are_slots() -> None:
    turns: FairQueue[int] = FairQueue(2)
    assert [turns.enter(n, ME, LONG) for n in range(4)] == [True, True, False, False]
    assert (turns.running, turns.waiting, turns.has_free_slot) == (2, 2, False)
    assert turns.leave(1) == [2]
    assert turns.leave(0) == [3]
    assert turns.leave(2) == []
    assert (turns.running, turns.waiting, turns.has_free_slot) == (1, 0, True)


def test_within_a_session_the_first_call_is_first() -> None:
    assert waiting(("a/x", "1", LONG), ("a/x", "2", LONG), ("a/x", "3", LONG)) == ["1", "2", "3"]


def test_keys_take_turns_however_many_calls_one_has() -> None:
    calls = [("a", f"a{n}", LONG) for n in range(4)] + [("b", f"b{n}", LONG) for n in range(2)]
    assert waiting(*calls) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_sessions_of_a_key_take_turns() -> None:
    calls = [("a/x", "x0", LONG), ("a/x", "x1", LONG), ("a/x", "x2", LONG), ("a/y", "y0", LONG)]
    assert waiting(*calls) == ["x0", "y0", "x1", "x2"]


def test_more_sessions_do_not_give_a_key_more_turns() -> None:
    calls = [(f"a/{n}", f"a{n}", LONG) for n in range(3)] + [
        ("b/x", f"b{n}", LONG) for n in range(3)
    ]
    assert waiting(*calls) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_short_calls_go_first_but_no_more_than_three_in_a_row() -> None:
    calls = [("a", f"L{n}", LONG) for n in range(2)] + [("b", f"s{n}", SHORT) for n in range(8)]
    assert waiting(*calls) == ["s0", "s1", "s2", "L0", "s3", "s4", "s5", "L1", "s6", "s7"]


def test_short_calls_while_no_long_one_waits_do_not_count() -> None:
    turns: FairQueue[str] = FairQueue(1)
    turns.enter("first", ME, LONG)
    for n in range(6):
        turns.enter(f"s{n}", ME, SHORT)
    begun = ["first"]
    for _ in range(3):
        begun += turns.leave(begun[-1])
    turns.enter("L", ME, LONG)
    assert begun[1:] + order(turns, begun[-1]) == ["s0", "s1", "s2", "s3", "s4", "s5", "L"]


def test_a_cancelled_call_is_skipped_and_the_order_stays() -> None:
    turns: FairQueue[str] = FairQueue(1)
    turns.enter("first", ME, LONG)
    for name, key in (("a0", "a"), ("a1", "a"), ("b0", "b"), ("c0", "c")):
        turns.enter(name, (key, ""), LONG)
    assert turns.leave("a0") == []
    assert turns.leave("b0") == []
    assert turns.waiting == 2
    assert order(turns, "first") == ["a1", "c0"]


def test_a_change_of_slots_counts_calls_in_flight() -> None:
    turns: FairQueue[int] = FairQueue(1)
    for n in range(6):
        turns.enter(n, ME, LONG)
    assert turns.resize(3) == [1, 2]
    assert (turns.running, turns.waiting) == (3, 3)
    assert turns.resize(1) == []
    assert [turns.leave(n) for n in range(3)] == [[], [], [3]]
    assert turns.resize(9) == [4, 5]
    assert turns.has_free_slot


def test_when_to_come_back_is_reported_by_how_long_calls_took() -> None:
    turns: FairQueue[int] = FairQueue(2)
    for n in range(5):
        turns.enter(n, ME, LONG)
    assert turns.retry_after() == 10  # 5 s until it is known better, 4 in two slots
    for _ in range(50):
        turns.record_duration(2.0)
    assert turns.retry_after() == 5  # nearly: it is rounded up


@pytest.mark.parametrize(("seconds", "reported"), [(0.001, 1), (10_000.0, 60)])
def test_when_to_come_back_is_from_a_second_to_a_minute(seconds: float, reported: int) -> None:
    turns: FairQueue[int] = FairQueue(1)
    for _ in range(50):
        turns.record_duration(seconds)
    assert turns.retry_after() == reported


@define(eq=False)
class Call:
    """A call, and who began between its coming and its beginning."""

    names: tuple[str, str]
    short: bool
    alone: bool
    before: list[Call] = field(factory=list)


@define
class Backend:
    """A backend whose calls are kept by the test too."""

    turns: FairQueue[Call]
    running: list[Call] = field(factory=list)
    waiting: list[Call] = field(factory=list)

    def come(self, names: tuple[str, str], short: bool) -> None:
        alone = not any(c.names[0] == names[0] and c.short == short for c in self.waiting)
        call = Call(names, short, alone)
        (self.running if self.turns.enter(call, names, short) else self.waiting).append(call)

    def end(self, number: int) -> None:
        over = self.running.pop(number % len(self.running))
        self.begin(self.turns.leave(over))

    def resize(self, slots: int) -> None:
        self.begin(self.turns.resize(slots))

    def begin(self, calls: list[Call]) -> None:
        for begun in calls:
            self.waiting.remove(begun)
            self.running.append(begun)
            self.check(begun)
            for call in self.waiting:
                call.before.append(begun)
        assert not (self.waiting and self.turns.has_free_slot), (
            "a slot is free while somebody waits"
        )

    def give_up(self, number: int) -> None:
        over = self.waiting.pop(number % len(self.waiting))
        assert self.turns.leave(over) == []

    def check(self, call: Call) -> None:
        """Whether all that began before it had the right to."""
        alike = [other for other in call.before if other.short == call.short]
        if call.alone:  # it was the only one of its key, so it is next when its key is
            keys = [other.names[0] for other in alike]
            assert len(keys) == len(set(keys)), "another key had two turns"
        others = len(call.before) - len(alike)
        most = 3 * (len(alike) + 1) if not call.short else len(alike) // 3 + 1
        assert others <= most, "too many of the other kind"


NAMES = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))
COME = st.tuples(st.just("come"), NAMES, st.booleans())
GO = st.tuples(st.sampled_from(["end", "end", "give up", "resize"]), st.integers(0, 99))


@given(slots=st.integers(1, 3), steps=st.lists(st.one_of(COME, GO), max_size=80))
def test_the_estimated_wait_has_bounds(
    slots: int, steps: list[tuple[str, tuple[str, str], bool] | tuple[str, int]]
) -> None:
    backend = Backend(FairQueue(slots))
    for step in steps:
        if len(step) == 3:
            backend.come(step[1], step[2])
        elif step[0] == "end" and backend.running:
            backend.end(step[1])
        elif step[0] == "give up" and backend.waiting:
            backend.give_up(step[1])
        elif step[0] == "resize":
            backend.resize(step[1] % 3 + 1)
        assert backend.turns.running == len(backend.running) <= 3
        assert backend.turns.waiting == len(backend.waiting)
    left = len(backend.waiting) + len(backend.running)
    for _ in range(left):
        backend.end(0)
    assert not backend.waiting
    assert not backend.running
    assert not backend.turns._rotation
