"""Calls that start out of turn, and how long the others wait for them."""

from __future__ import annotations

import copy
import heapq

from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from stages.backends.fair_queue import FairQueue
from stages.backends.slots import COLD, Warmth

COLD_SECONDS = 10.0


@define
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@define
class Queue:
    """A queue with a clock, whose calls are named by conversation and number, as `a1`."""

    turns: int = 4
    seconds: float = 60.0
    slots: int = 1
    models: dict[str, str] = field(factory=dict)
    clock: Clock = field(factory=Clock)
    fair: FairQueue[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.fair = FairQueue(self.slots, self.clock)

    def enter(self, *calls: str) -> list[bool]:
        return [self.fair.enter(c, ("key", c[0]), False, self.warmth(c[0])) for c in calls]

    def warmth(self, conversation: str) -> Warmth:
        model = self.models.get(conversation, "")
        return Warmth(conversation, model, self.turns, self.seconds)

    def leave(self, call: str, after: float = 10.0, hold: float = 0.0) -> list[str]:
        self.clock.now += after
        return self.fair.leave(call, hold)

    def order(self, call: str, after: float = 10.0) -> str:
        """The calls that start one by one, from the end of `call` on."""
        started = []
        while following := self.leave(call, after):
            started += following
            (call,) = following
        return " ".join(started)


def test_a_call_of_the_conversation_that_ran_last_is_next() -> None:
    queue = Queue()
    queue.enter("a1", "b1", "c1", "a2")
    assert queue.order("a1") == "a2 b1 c1"


def test_a_conversation_has_at_most_its_turns_in_a_row() -> None:
    queue = Queue(turns=3)
    queue.enter("a1", "b1", *(f"a{n}" for n in range(2, 8)))
    queue.clock.now += 1000  # b1 waits so long that its budget is no limit
    assert queue.order("a1", after=1) == "a2 a3 b1 a4 a5 a6 a7"


def test_a_conversation_goes_on_for_its_seconds() -> None:
    queue = Queue(turns=9, seconds=4.5)
    queue.enter("a1", "b1", *(f"a{n}" for n in range(2, 8)))
    queue.clock.now += 1000
    assert queue.order("a1", after=2).startswith("a2 a3 a4 b1")


def test_a_call_that_has_not_waited_is_not_overtaken() -> None:
    queue = Queue()
    queue.enter("a1")
    queue.clock.now += 10
    queue.enter("b1", "a2")
    assert queue.order("a1", after=0.1) == "b1 a2"


def test_calls_out_of_turn_take_as_long_as_the_rotation_took() -> None:
    queue = Queue(turns=99)
    queue.enter("a1", "b1", *(f"a{n}" for n in range(2, 9)))
    assert queue.leave("a1", after=10) == ["a2"]
    assert [queue.leave(f"a{n}", after=3) for n in (2, 3, 4)] == [["a3"], ["a4"], ["b1"]]


def test_with_one_turn_the_order_is_the_rotation() -> None:
    for queue in (Queue(turns=1), Queue(seconds=-1)):
        queue.enter("a1", "b1", "a2", "b2", "a3")
        assert queue.order("a1") == "b1 a2 b2 a3"
    fair: FairQueue[int] = FairQueue(1)
    for n in range(4):
        fair.enter(n, ("key", str(n % 2)), False, COLD)
    assert fair.leave(0) == [1]


def test_a_slot_waits_for_the_conversation() -> None:
    queue = Queue()
    queue.enter("a1", "b1")
    assert queue.leave("a1", hold=0.5) == []
    assert "a1" in queue.fair
    assert (queue.fair.running, queue.fair.waiting, queue.fair.has_free_slot) == (0, 1, False)
    assert queue.fair.may_start(queue.warmth("a"))
    assert queue.enter("a2") == [True]
    assert "a1" not in queue.fair
    assert queue.leave("a2", after=1) == ["b1"]


def test_the_end_of_a_hold_starts_the_next_call() -> None:
    queue = Queue()
    queue.enter("a1", "b1")
    queue.leave("a1", hold=0.5)
    assert queue.leave("a1", after=0.5) == ["b1"]
    assert queue.enter("a2") == [False]


def test_another_call_ends_a_hold() -> None:
    queue = Queue()
    queue.enter("a1", "b1")
    queue.leave("a1", hold=0.5)
    assert queue.enter("c1") == [False]
    assert queue.fair.end_holds() == ["b1"]
    assert queue.fair.end_holds() == []


def test_a_slot_does_not_wait_for_nothing_or_before_new_calls() -> None:
    queue = Queue()
    queue.enter("a1")
    assert queue.leave("a1", hold=0.5) == []
    assert queue.fair.has_free_slot
    queue.enter("a2")
    queue.clock.now += 10
    queue.enter("b1")
    assert queue.leave("a2", after=0.1, hold=0.5) == ["b1"]


def test_a_hold_and_its_call_take_as_long_as_the_rotation() -> None:
    for hold, started in ((7.5, []), (7.6, ["b1"])):  # the call is expected to take 2.5 s
        queue = Queue()
        queue.enter("a1", "b1")
        assert queue.leave("a1", after=10, hold=hold) == started


def test_a_hold_is_free_for_all_when_the_last_waiting_call_leaves() -> None:
    queue = Queue()
    queue.enter("a1", "b1")
    queue.leave("a1", hold=0.5)
    queue.fair.leave("b1")
    assert queue.enter("c1") == [False]
    assert queue.fair.end_holds() == ["c1"]


def test_of_two_slots_each_has_its_conversation() -> None:
    queue = Queue(slots=2)
    queue.enter("a1", "b1", "c1", "b2", "a2", "d1")
    assert queue.leave("b1") == ["b2"]
    assert queue.leave("a1") == ["a2"]


def test_calls_of_the_loaded_model_go_before_others() -> None:
    queue = Queue(turns=1, models={"a": "M", "b": "N", "c": "M", "d": "N"})
    queue.enter("a1", "b1", "c1", "d1")
    assert queue.order("a1") == "c1 b1 d1"


def test_the_seconds_of_a_model_begin_again_with_a_call_in_its_turn() -> None:
    queue = Queue(seconds=25, models={"a": "m", "b": "m", "c": "n", "d": "m"})
    queue.enter("a1", "b1", "c1", "d1")
    assert queue.leave("a1", after=10) == ["b1"], "in its turn"
    assert queue.leave("b1", after=30) == ["d1"]


def test_a_model_goes_on_for_no_longer_than_the_rotation_took() -> None:
    queue = Queue(turns=1, models=dict.fromkeys("acdef", "M") | {"b": "N"})
    queue.enter("a1", "b1", "c1", "d1", "e1", "f1")
    queue.clock.now += 10
    assert queue.order("a1") == "c1 d1 b1 e1 f1", "b1 waited 20 s for a1, then 20 s for c1 and d1"


def test_conversations_are_grouped_within_the_model() -> None:
    queue = Queue(turns=2, models={"a": "M", "b": "N", "c": "M"})
    queue.enter("a1", "b1", "c1", "a2", "a3")
    queue.clock.now += 1000
    assert queue.order("a1", after=1) == "a2 c1 a3 b1"


# ---- The bound ----


@define(eq=False)
class Run:
    """A backend whose calls in their turn take 10 s. `warm`: durations of the others.

    `hold`: seconds for which each slot is reserved.
    """

    fair: FairQueue[int]
    clock: Clock
    warm: list[float]
    hold: float
    arrivals: list[tuple[float, int]]
    """When each conversation sends a call, the next one first."""
    ends: list[tuple[float, int]] = field(factory=list)
    waits: dict[int, float] = field(factory=dict)
    """How long each call waited."""
    since: dict[int, float] = field(factory=dict)
    """When the waiting calls entered."""
    out_of_turn: dict[int, float] = field(factory=dict)
    """Seconds of the calls of other conversations that started out of turn while a call waited."""
    conversations: dict[int, int] = field(factory=dict)
    excess: dict[int, float] = field(factory=dict)
    """By how much a call out of turn took longer than expected, at most, while a call waited."""
    number: int = 0
    warmth: bool = True

    def step(self) -> int | None:
        """Go on to the next arrival or end. Return the call that waits from now on."""
        if self.arrivals and (not self.ends or self.arrivals[0][0] <= self.ends[0][0]):
            self.clock.now, conversation = self.arrivals.pop(0)
            return self.enter(conversation)
        self.clock.now, call = heapq.heappop(self.ends)
        if call in self.fair._running:
            self.start_all(self.fair.leave(call, self.hold))
            if call in self.fair:
                heapq.heappush(self.ends, (self.clock.now + self.hold, call))
        elif call in self.fair:
            self.start_all(self.fair.leave(call))
        return None

    def start_all(self, calls: list[int]) -> None:
        for call in calls:
            self.waits[call] = self.clock.now - self.since.pop(call)
            self.start(call)

    def enter(self, conversation: int) -> int | None:
        self.number += 1
        self.conversations[self.number] = conversation
        warmth = Warmth(str(conversation), "", 6, 1000.0) if self.warmth else COLD
        names = (str(conversation % 2), str(conversation))
        if self.fair.enter(self.number, names, False, warmth):
            self.start(self.number)
            return None
        self.since[self.number] = self.clock.now
        self.out_of_turn[self.number] = self.excess[self.number] = 0.0
        self.start_all(self.fair.end_holds())
        return self.number if self.number in self.since else None

    def start(self, call: int) -> None:
        seconds = COLD_SECONDS
        if (out_of_turn := self.fair._running[call].out_of_turn) is not None:
            seconds = self.warm[call % len(self.warm)]
            for waiting in self.since:
                self.excess[waiting] = max(self.excess[waiting], seconds - out_of_turn.expected)
                if self.conversations[waiting] != self.conversations[call]:
                    self.out_of_turn[waiting] += seconds
        self.fair.record_duration(seconds)
        heapq.heappush(self.ends, (self.clock.now + seconds, call))

    def alone(self, call: int) -> bool:
        """Whether it is the only waiting call of its key: then no later call goes before it."""
        waiting = self.fair._waiting
        return sum(w.names[0] == waiting[call].names[0] for w in waiting.values()) == 1

    def strict(self) -> Run:
        """The same backend, which follows the rotation from now on."""
        run = copy.deepcopy(self)
        run.warmth, run.hold = False, 0.0
        run.fair._free.clear()
        for call, waiting in run.fair._waiting.items():
            run.fair._waiting[call] = waiting._replace(warmth=COLD)
        for slot in run.fair._running.values():
            slot.warmth = COLD
        return run

    def wait_of(self, call: int) -> float:
        while call not in self.waits:
            self.step()
        return self.waits[call]


ARRIVALS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4)), min_size=6, max_size=20).map(
    sorted
)


@given(
    slots=st.integers(1, 3),
    arrivals=ARRIVALS,
    warm=st.lists(st.integers(1, 10), min_size=1, max_size=5),
    hold=st.sampled_from([0, 0, 1, 5]),
)
def test_no_call_waits_twice_as_long_as_in_the_rotation(
    slots: int, arrivals: list[tuple[int, int]], warm: list[int], hold: int
) -> None:
    clock = Clock()
    run = Run(FairQueue(slots, clock), clock, [float(w) for w in warm], hold, [*arrivals])
    strict: dict[int, float] = {}
    while run.arrivals or run.ends:
        call = run.step()
        if call is not None and run.alone(call):
            strict[call] = run.strict().wait_of(call)
    for call, wait in run.waits.items():
        if slots == 1:
            assert wait <= 2 * (wait - run.out_of_turn[call]) + run.excess[call]
        if call in strict:
            assert wait <= 2 * strict[call] + run.excess[call]
