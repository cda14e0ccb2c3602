"""The turns of requests that wait for a place: whoever has waited longest gets on."""

from __future__ import annotations

import random
from collections.abc import Sequence

from attrs import Factory, define

from stages.limits.ledger import Ledger
from stages.limits.store import Admitted
from tests.cases import for_each
from tests.stages.limits.ledgers import NewLedger
from tests.stages.limits.ledgers import ledger_server as ledger_server
from tests.stages.limits.ledgers import new_ledger as new_ledger
from tests.stages.limits.support import AnyLedger, Ask, admit, places

NOW = 1_790_000_000.0
KEY, MODEL = places(1, "key:k"), places(1, "model:m")


def admitted(ledger: AnyLedger, hold: str, *asks: Ask, at: float = 0) -> bool:
    return isinstance(admit(ledger, NOW + at, hold, *asks, queue=True), Admitted)


def woken(ledger: AnyLedger, waiting: Sequence[str], *asks: Ask) -> list[str]:
    """Let the woken requests ask again until none is woken. Return the admitted ones."""
    result: list[str] = []
    for _ in range(20):
        ready = [hold for hold in dict.fromkeys(ledger.take_ready()) if hold not in result]
        if not ready:
            return result
        assert {*ready} <= {*waiting}
        result += [hold for hold in ready if admitted(ledger, hold, *asks, at=20)]
    raise AssertionError("requests wake each other for ever")


def test_requests_that_wait_for_two_limits_all_get_a_place(
    new_ledger: NewLedger,
) -> None:
    """Two wait for the key and two for the model. Then both have a place."""
    ledger = new_ledger()
    assert admitted(ledger, "x", KEY)
    for n, hold in enumerate(("a1", "a2")):
        assert not admitted(ledger, hold, KEY, MODEL, at=n)
    assert admitted(ledger, "y", MODEL, at=3)
    ledger.settle(NOW + 4, "x", [1])
    assert not admitted(ledger, "a1", KEY, MODEL, at=4)  # it waits for the model now
    for n, hold in enumerate(("b1", "b2"), 5):
        assert not admitted(ledger, hold, KEY, MODEL, at=n)
    ledger.take_ready()
    ledger.settle(NOW + 8, "y", [1])

    assert woken(ledger, ("a1", "a2", "b1", "b2"), KEY, MODEL) == ["a1"]
    for hold, following in (("a1", "a2"), ("a2", "b1"), ("b1", "b2")):
        ledger.settle(NOW + 30, hold, [1, 1])
        assert woken(ledger, ("a2", "b1", "b2"), KEY, MODEL) == [following]


def test_a_higher_maximum_wakes_as_many_requests_as_have_a_place(new_ledger: NewLedger) -> None:
    """Also if more requests wait, so that the request with the new maximum must wait, too."""
    ledger = new_ledger()
    admitted(ledger, "1", places(1))
    for n in range(6):
        assert not admitted(ledger, f"w{n}", places(1), at=n)
    assert not ledger.take_ready()

    assert not admitted(ledger, "new", places(4), at=9)

    assert woken(ledger, [f"w{n}" for n in range(6)], places(4)) == ["w0", "w1", "w2"]


@define
class History:
    """Random requests of one to three limits, of which some change."""

    random: random.Random
    ledger: Ledger = Factory(Ledger)
    active: dict[str, list[Ask]] = Factory(dict)
    waiting: dict[str, list[Ask]] = Factory(dict)
    maxima: dict[str, int] = Factory(lambda: dict.fromkeys("abc", 2))

    def step(self, n: int) -> None:
        if self.random.random() < 0.05:
            self.maxima[self.random.choice("abc")] = self.random.choice([1, 2, 3])
        action = self.random.random()
        if action < 0.5:
            accounts = self.random.sample("abc", self.random.randint(1, 3))
            self.admit(f"h{n}", [places(self.maxima[account], account) for account in accounts], n)
        elif action < 0.75 and self.active:
            self.settle(self.random.choice([*self.active]), n)
        elif action < 0.8 and self.waiting:
            hold = self.random.choice([*self.waiting])
            del self.waiting[hold]
            self.ledger.leave(hold)
        self.wake(n)

    def admit(self, hold: str, asks: list[Ask], n: int) -> None:
        self.waiting.pop(hold, None)
        (self.active if admitted(self.ledger, hold, *asks, at=n) else self.waiting)[hold] = asks

    def settle(self, hold: str, n: int) -> None:
        self.ledger.settle(NOW + n, hold, [1] * len(self.active.pop(hold)))

    def wake(self, n: int) -> None:
        """Let the woken requests ask again until none is woken."""
        for _ in range(200):
            if not (ready := self.ledger.take_ready()):
                return
            for hold in dict.fromkeys(ready):
                if hold in self.waiting:
                    self.admit(hold, self.waiting[hold], n)
        raise AssertionError("requests wake each other for ever")


@for_each("seed", range(100))
def test_each_waiting_request_gets_on(seed: int) -> None:
    history = History(random.Random(seed))
    for n in range(60):
        history.step(n)
    while history.active:
        history.settle(next(iter(history.active)), 99)
        history.wake(99)
    assert not history.waiting
