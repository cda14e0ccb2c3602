"""The Lua scripts do what the ledger does, in random histories of calls."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from attrs import Factory, define

from stages.limits.ledger import Ledger
from stages.limits.store import Admitted, Refused
from tests.redis_server import RedisServer, Resp
from tests.stages.limits.ledgers import SCRIPTS, NewLedger
from tests.stages.limits.ledgers import ledger_server as ledger_server
from tests.stages.limits.ledgers import new_ledger as new_ledger
from tests.stages.limits.support import AnyLedger, Ask, admit, budget, places, rate

#: An hour before the end of a month (UTC).
START = 1_796_083_200.0 - 3600
LEASE = 60.0
STEPS = 250
ACCOUNTS = ("all", "key:a", "key:b")


@define
class Histories:
    """The same random calls to both ledgers."""

    random: random.Random
    ledgers: Sequence[AnyLedger]
    now: float = START
    asks: dict[str, list[Ask]] = Factory(dict)
    waiting: set[str] = Factory(set)
    outcomes: list[str] = Factory(list)

    def step(self) -> None:
        self.now += self.random.choice([0, 0, 0.01, 0.5, 5, 5, 30])
        if self.random.random() < 0.02:
            self.now += self.random.choice([700, 4000])
        chance = self.random.random()
        hold = self.random.choice(list(self.asks)) if self.asks else ""
        if chance < 0.5 or not hold:
            self.admit(f"hold {len(self.asks)}")
        elif chance < 0.6:
            self.admit(hold)
        elif chance < 0.9:
            used = [self.random.choice([0.0, 0.3, 1, 40, 120]) for _ in self.asks[hold]]
            for ledger in self.ledgers:
                ledger.settle(self.now, hold, used)
            self.waiting.discard(hold)
        else:
            for ledger in self.ledgers:
                ledger.renew(self.now, hold)

    def admit(self, hold: str) -> None:
        if hold not in self.asks:
            self.asks[hold] = self.some_asks()
        queue = self.random.random() < 0.5
        results = [
            admit(ledger, self.now, hold, *self.asks[hold], queue=queue) for ledger in self.ledgers
        ]
        assert described(results[0]) == pytest.approx(described(results[1]), abs=1e-6)
        self.outcomes.append(kind(results[0], self.asks[hold]))

    def some_asks(self) -> list[Ask]:
        asks = []
        for account in ("all", self.random.choice(ACCOUNTS[1:])):
            possible = [
                rate(8, account=account),
                rate(300, self.random.choice([0, 1, 90, 500]), account, "hour"),
                budget(400, self.random.choice([0, 1.5, 30, 90]), account, "day"),
                budget(900, self.random.choice([0, 1.5, 30]), account, "month"),
                places(3, account),
            ]
            asks += possible
        self.random.shuffle(asks)
        return asks


def described(result: Admitted | Refused) -> list[float]:
    flat = [float(number) for level in result.levels for number in level]
    if isinstance(result, Admitted):
        return [*flat, -1.0]
    return [*flat, float(result.want), result.retry_after, float(result.used_up)]


def kind(result: Admitted | Refused, asks: Sequence[Ask]) -> str:
    return "admitted" if isinstance(result, Admitted) else asks[result.want].want.kind


@pytest.mark.untraced
@pytest.mark.parametrize("new_ledger", [SCRIPTS], indirect=True)
def test_both_ledgers_return_the_same(new_ledger: NewLedger) -> None:
    outcomes = set()
    for seed in range(20):
        histories = Histories(random.Random(seed), [Ledger(LEASE), new_ledger(lease=LEASE)])
        for _ in range(STEPS):
            histories.step()
        outcomes |= set(histories.outcomes)

    assert outcomes == {"admitted", "rate", "budget", "concurrency"}


@pytest.mark.parametrize("new_ledger", [SCRIPTS], indirect=True)
def test_keys_live_as_long_as_their_counts(
    new_ledger: NewLedger, ledger_server: RedisServer
) -> None:
    ledger = new_ledger(lease=60)
    with Resp(ledger_server.port) as client:
        admit(ledger, START, "1", rate(60, 1, "key:a"))
        admit(ledger, START, "2", budget(5, 1, "key:b", "month"))
        admit(ledger, START, "3", rate(1000, 1000, "key:c", "day"))
        keys = client.call("KEYS", "*")
        times = {key.decode(): client.call("TTL", key) for key in keys}

    assert 3660 <= times["llm-proxy:{key:a}:counts"] <= 3662
    assert 3660 <= times["llm-proxy:{key:b}:times"] <= 3662
    assert 86300 <= times["llm-proxy:{key:c}:counts"] <= 86402
    assert -1 not in times.values()


@pytest.mark.parametrize("new_ledger", [SCRIPTS], indirect=True)
def test_the_oldest_counts_of_sessions_are_dropped(
    new_ledger: NewLedger, ledger_server: RedisServer
) -> None:
    ledger = new_ledger(max_clients=20)
    admit(ledger, START, "runs", rate(60, 1, "session:runs", "day"))
    for n in range(100):
        asks = [rate(60, 1, "key:a", "day"), rate(60, 1, f"session:{n}", "day")]
        admit(ledger, START + n, str(n), *asks[n >= 50 :])
        ledger.settle(START + n, str(n), [1] * len(asks[n >= 50 :]))
    with Resp(ledger_server.port) as client:
        keys = {key.decode() for key in client.call("KEYS", "*:counts")}

    assert 11 < len(keys) <= 21
    assert {"llm-proxy:{session:99}:counts", "llm-proxy:{session:runs}:counts"} <= keys
    assert "llm-proxy:{key:a}:counts" in keys
