"""The two forms of the ledger: stages/limits/ledger.py, and the scripts in a real server."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pytest
from attrs import define, field

from stages.limits.ledger import Ledger
from stages.limits.redis_store import READY
from stages.limits.script_calls import WantsByAccount, admission, load_script
from stages.limits.store import Admitted, Refused, Want
from tests.redis_server import BINARY, RedisServer, Resp, needs_server, running_redis
from tests.stages.limits.support import AnyLedger

NewLedger = Callable[..., AnyLedger]
#: Seconds after which a waiting request is dropped.
PATIENCE = 10_000_000


@define(eq=False)
class ScriptLedger:
    """The scripts, called as a Ledger."""

    client: Resp
    messages: Resp
    lease: float = 10_000_000.0
    max_clients: int = 100_000
    now: float = 0.0
    holds: dict[str, WantsByAccount] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.client.call("FLUSHALL")
        self.take_ready()

    def admit(
        self,
        now: float,
        hold: str,
        wants: Sequence[Want],
        amounts: Sequence[float],
        queue: bool = False,
    ) -> Admitted | Refused:
        asking = self.holds[hold] = WantsByAccount(wants)
        patience = PATIENCE if queue else 0
        return admission(self.run("admit", now, hold, patience, asking.items(amounts)))

    def settle(self, now: float, hold: str, used: Sequence[float]) -> None:
        if ending := self.holds.get(hold):
            used = [*used, *[0.0] * (len(ending.wants) - len(used))]
            self.run("settle", now, hold, ending.amounts(used))

    def renew(self, now: float, hold: str) -> None:
        if hold in self.holds:
            self.run("renew", now, hold)

    def leave(self, hold: str) -> None:
        self.settle(self.now, hold, [])

    def run(self, name: str, now: float, hold: str, *arguments: float | bytes) -> bytes:
        self.now = now
        keys = self.holds[hold].keys
        text = load_script(name).text.replace("100000", str(self.max_clients))
        result: bytes = self.client.call(
            "EVAL", text, len(keys), *keys, hold, repr(now), self.lease, *arguments
        )
        return result

    @property
    def next_end(self) -> float:
        ends = [math.inf]
        for key in self.client.call("KEYS", "*:times"):
            ends += map(float, self.client.call("ZRANGE", key, 0, -1, "WITHSCORES")[1::2])
        return min(ends)

    def take_ready(self) -> list[str]:
        """What was published since the last call."""
        self.messages.send("SUBSCRIBE", "end")
        ready = []
        while (message := self.messages.receive())[0] != b"subscribe":
            ready.append(message[2].decode())
        return ready


@pytest.fixture(scope="session")
def ledger_server() -> Iterator[RedisServer | None]:
    """A server for all tests of ledgers, if there is one on this machine."""
    if BINARY is None:
        yield None
        return
    with running_redis() as server:
        yield server


SCRIPTS = pytest.param("scripts", marks=needs_server)


@pytest.fixture(params=["ledger", SCRIPTS])
def new_ledger(
    request: pytest.FixtureRequest, ledger_server: RedisServer | None
) -> Iterator[NewLedger]:
    """Make an empty ledger; its argument is `lease`."""
    if request.param == "ledger":
        yield Ledger
        return
    assert ledger_server is not None
    with Resp(ledger_server.port) as client, Resp(ledger_server.port) as messages:
        messages.call("SUBSCRIBE", READY)
        yield partial(ScriptLedger, client, messages)
