"""The ledger after random calls: admit, settle, renew, time, and processes that die."""

from __future__ import annotations

import random

from attrs import Factory, define

from stages.limits.ledger import Ledger
from stages.limits.store import Admitted, Level
from tests.cases import for_each
from tests.stages.limits.support import Ask, admit, budget, places, rate

START = 1_795_867_200.0
LEASE = 60.0
RATES = {"all": 1000.0, "key:a": 300.0, "key:b": 600.0}
PLACES = {"all": 12.0, "key:a": 3.0, "key:b": 8.0}
BUDGET = 1e9
#: No budget begins again: these rounds are within a day.
STEPS = 400


@define
class Random:
    """A ledger and random requests, with the sums that it should have."""

    random: random.Random
    now: float = START
    ledger: Ledger = Factory(lambda: Ledger(LEASE))
    running: dict[str, tuple[Ask, ...]] = Factory(dict)
    dead: set[str] = Factory(set)
    taken: dict[str, float] = Factory(lambda: dict.fromkeys(RATES, 0.0))
    """What each rate gave: the estimates of holds, the use of those that ended."""
    spent: dict[str, float] = Factory(lambda: dict.fromkeys(RATES, 0.0))
    number: int = 0

    def step(self) -> None:
        self.now += self.random.choice([0, 0, 0.01, 0.5, 5])
        chance = self.random.random()
        if chance < 0.5 or not self.running:
            self.admit()
        elif chance < 0.85:
            self.settle(self.random.choice(list(self.running)))
        elif chance < 0.93:
            dead = self.random.choice(list(self.running))  # its process died
            del self.running[dead]
            self.dead.add(dead)
        for hold in self.running:
            if self.random.random() < 0.5:
                self.ledger.renew(self.now, hold)

    def admit(self) -> None:
        self.number += 1
        hold = f"hold {self.number}"
        key = self.random.choice(["key:a", "key:b"])
        amount = self.random.choice([1, 10, 50, 90])
        wants = tuple(
            want
            for account in ("all", key)
            for want in (
                rate(RATES[account], amount, account),
                budget(BUDGET, amount, account),
                places(PLACES[account], account),
            )
        )
        self.ledger.expire(self.now)
        before = self.everything()
        if isinstance(admit(self.ledger, self.now, hold, *wants), Admitted):
            self.running[hold] = wants
            for account in ("all", key):
                assert self.in_flight()[account] <= PLACES[account]
                self.taken[account] += amount
                elapsed = self.now - START
                allowed = RATES[account] * (1 + elapsed / 60)
                assert self.taken[account] <= allowed + 1e-6, "never above the limit"
        else:
            assert before == self.everything(), "a refusal changes nothing"

    def settle(self, hold: str) -> None:
        wants = self.running.pop(hold)
        used = self.random.randint(0, int(wants[0].amount))
        for _ in range(self.random.choice([1, 1, 3])):
            self.ledger.settle(self.now, hold, [used] * len(wants))
        for want in wants:
            if want.want.kind == "rate":
                self.taken[want.account] += used - want.amount
            elif want.want.kind == "budget":
                self.spent[want.account] += used

    def everything(self) -> list[Level]:
        """The levels of all counts."""
        wants = [
            want
            for account, maximum in RATES.items()
            for want in (rate(maximum, 0, account), budget(BUDGET, 0, account))
        ]
        wants += [places(maximum, account) for account, maximum in PLACES.items()]
        return [self.level(want) for want in wants]

    def in_flight(self) -> dict[str, float]:
        return {
            account: maximum - self.level(places(maximum, account)).remaining
            for account, maximum in PLACES.items()
        }

    def spent_of(self, account: str) -> float:
        return BUDGET - self.level(budget(BUDGET, 0, account)).remaining

    def level(self, ask: Ask) -> Level:
        return self.ledger._count(ask.want).level(self.now, ask.want)


@for_each("seed", range(40))
def test_holds_return_to_zero_and_spent_is_what_was_used(seed: int) -> None:
    world = Random(random.Random(seed))
    for _ in range(STEPS):
        world.step()
    for hold in list(world.running):
        world.settle(hold)
    world.now += LEASE
    world.ledger.expire(world.now)

    assert world.dead
    assert world.in_flight() == dict.fromkeys(PLACES, 0)
    assert {account: world.spent_of(account) for account in RATES} == world.spent
    assert not world.ledger._holds


@for_each("seed", range(10))
def test_late_settlements_of_expired_holds_are_charged_once(seed: int) -> None:
    world = Random(random.Random(seed))
    for n in range(50):
        world.admit()
        world.now += n % 7
    world.now += LEASE + 1
    world.ledger.expire(world.now)
    assert world.in_flight() == dict.fromkeys(PLACES, 0)
    for hold in list(world.running):
        world.settle(hold)
    assert world.in_flight() == dict.fromkeys(PLACES, 0)
    assert {account: world.spent_of(account) for account in RATES} == world.spent
