"""The Lua scripts do what FairQueue does, in random histories, also if processes die."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from attrs import define, field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.backends.fair_queue import FairQueue
from stages.backends.redis_call_queue import _KEYS
from stages.shared_store.client import load_script
from tests.redis_server import RedisServer, Resp, needs_server
from tests.redis_server import redis_server as redis_server

pytestmark = needs_server
LEASE = 60.0
MAX_QUEUED = 12
TEXTS = {
    name: load_script("stages.backends", "call_queue", name).text
    for name in ("enter", "leave", "renew")
}
KEYS = [f"llm-proxy:{{queue:gpu}}:{key}" for key in _KEYS]


@define(eq=False)
class ScriptQueue:
    """The scripts, called by two processes."""

    client: Resp
    messages: Resp
    slots: int
    now: float = 1e9
    retry_after: int = 0

    def __attrs_post_init__(self) -> None:
        self.client.call("FLUSHALL")
        self.take_messages()

    def run(self, name: str, call: str, *arguments: str | bytes | float) -> tuple[str, set[str]]:
        """The result of a script, and the calls that it started in any process."""
        process = call.partition(":")[0]
        common = (repr(self.now), LEASE, process, self.slots)
        response = self.client.call("EVAL", TEXTS[name], 6, *KEYS, *common, *arguments)
        self.retry_after, result, started = response
        text = str(result) if isinstance(result, int) else result.decode()
        return text, {each.decode() for each in started} | self.take_messages()

    def enter(self, call: str, path: str, max_queued: int = MAX_QUEUED) -> tuple[str, set[str]]:
        return self.run("enter", call, call, path, max_queued)

    def leave(self, call: str, seconds: float | str = "") -> set[str]:
        return self.run("leave", call, call, seconds)[1]

    def renew(
        self, process: str, running: list[str], waiting: dict[str, str], ended: list[str]
    ) -> set[str]:
        packed = map(msgspec.msgpack.encode, (ended, running, list(waiting.items())))
        return self.run("renew", process, *packed)[1]

    def take_messages(self) -> set[str]:
        """What was sent to processes since the last call."""
        self.messages.send("SUBSCRIBE", "end")
        calls = set()
        while (message := self.messages.receive())[0] != b"subscribe":
            assert message[2].decode().endswith(message[3].partition(b":")[0].decode())
            calls.add(message[3].decode())
        return calls

    def members(self, key: str) -> set[str]:
        name = KEYS[_KEYS.index(key)]
        kinds = {"running": ("SMEMBERS", name), "waiting": ("HKEYS", name)}
        return {each.decode() for each in self.client.call(*kinds[key])}


@pytest.fixture(scope="module")
def clients(redis_server: RedisServer) -> Iterator[tuple[Resp, Resp]]:
    with Resp(redis_server.port) as client, Resp(redis_server.port) as messages:
        messages.call("PSUBSCRIBE", "llm-proxy:calls:*")
        yield client, messages


def path(client: int, session: int, short: bool) -> str:
    return f"{'s' if short else 'l'}{client:016x}{session:016x}"


def names(text: str) -> tuple[str, str]:
    return text[1:17], text[17:]


@define(eq=False)
class World:
    """Calls of two processes. `paths` has those in the queue."""

    scripts: ScriptQueue
    paths: dict[str, str] = field(factory=dict)
    number: int = 0

    def enter(self, process: int, client: int, session: int, short: bool) -> tuple[str, str]:
        """The call and the result."""
        self.number += 1
        call, where = f"process-{process}:{self.number}", path(client, session, short)
        result, started = self.scripts.enter(call, where)
        assert not started, "slots are never free while calls wait"
        if not result.isdecimal():
            self.paths[call] = where
            assert self.scripts.enter(call, where, 0) == (result, set()), "as it is"
        return call, result

    def leave(self, call: str, seconds: float | str = "") -> set[str]:
        del self.paths[call]
        started = self.scripts.leave(call, seconds)
        assert not self.scripts.leave(call), "a repetition changes nothing"
        return started

    def one_of(self, index: int) -> str:
        return [*self.paths][index % len(self.paths)]

    def check(self) -> None:
        running, waiting = self.scripts.members("running"), self.scripts.members("waiting")
        assert running | waiting == self.paths.keys()
        assert not running & waiting
        assert len(running) <= self.scripts.slots
        assert len(running) == self.scripts.slots or not waiting


PROCESS = st.integers(0, 1)
INDEX = st.integers(0, 30)
ENTER = st.tuples(st.just("enter"), PROCESS, st.integers(0, 2), st.integers(0, 1), st.booleans())
LEAVE = st.tuples(st.just("leave"), INDEX, st.sampled_from(["", 0.5, 30.0]))
RESIZE = st.tuples(st.just("resize"), st.integers(1, 2))
DIE = st.tuples(st.just("die"), PROCESS)
RESTART = st.just(("restart",))
STEPS = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.untraced
@given(st.lists(st.one_of(ENTER, ENTER, LEAVE, RESIZE), min_size=40, max_size=80))
@STEPS
def test_the_scripts_choose_the_calls_that_fair_queue_chooses(
    clients: tuple[Resp, Resp], steps: list[tuple[Any, ...]]
) -> None:
    world, model = World(ScriptQueue(*clients, slots=2)), FairQueue[str](2)
    for name, *arguments in steps:
        if name == "enter":
            full = not model.has_free_slot and model.waiting >= MAX_QUEUED
            call, result = world.enter(*arguments)
            if full:
                assert result == str(model.waiting)
            else:
                where = path(*arguments[1:])
                runs = model.enter(call, names(where), arguments[-1])
                assert result == ("running" if runs else "waiting")
        elif name == "leave" and world.paths:
            index, seconds = arguments
            call = world.one_of(index)
            if seconds:
                model.record_duration(seconds)
            assert world.leave(call, seconds) == set(model.leave(call))
        elif name == "resize":
            world.scripts.slots = arguments[0]
            assert world.scripts.renew("process-0", [], {}, []) == set(model.resize(*arguments))
        assert world.scripts.members("running") == model._running.keys()
        assert world.scripts.members("waiting") == model._waiting.keys()
    world.scripts.renew("process-0", [], {}, [])
    assert world.scripts.retry_after == model.retry_after()


@define(eq=False)
class Mortals(World):
    """Processes that die, that lose messages, and whose store restarts."""

    running: set[str] = field(factory=set)
    """What the processes know."""

    def own(self, process: int) -> dict[str, str]:
        return {call: where for call, where in self.paths.items() if call[8] == str(process)}

    def renew(self, process: int) -> None:
        own = self.own(process)
        waiting = {call: where for call, where in own.items() if call not in self.running}
        running = sorted(self.running & own.keys())
        self.running |= self.scripts.renew(f"process-{process}", running, waiting, [])

    def die(self, process: int) -> None:
        for _ in range(2):
            self.renew(1 - process)
            self.scripts.now += LEASE * 0.6
        for call in self.own(process):
            del self.paths[call]
        self.renew(1 - process)

    def restart(self) -> None:
        self.scripts.client.call("FLUSHALL")
        for process in (0, 1):  # all report the calls that run, before others start
            running = sorted(self.running & self.own(process).keys())
            assert not self.scripts.renew(f"process-{process}", running, {}, [])
        for process in (0, 1):
            self.renew(process)

    def serve_all(self) -> None:
        """Let the calls run and end."""
        for process in (0, 1):
            self.renew(process)
        while self.paths:
            assert self.running == self.scripts.members("running"), "no slot is lost"
            self.running |= self.leave(self.running.pop())


@pytest.mark.untraced
@given(
    st.lists(st.one_of(ENTER, ENTER, LEAVE, DIE, RESTART), min_size=20, max_size=60), st.randoms()
)
@STEPS
def test_all_calls_are_served_although_processes_die(
    clients: tuple[Resp, Resp], steps: list[tuple[Any, ...]], random: Random
) -> None:
    world = Mortals(ScriptQueue(*clients, slots=2))
    for name, *arguments in steps:
        if name == "enter":
            call, result = world.enter(*arguments)
            world.running |= {call} if result == "running" else set()
        elif name == "leave" and world.paths:
            started = world.leave(world.one_of(arguments[0]))
            world.running |= started if random.random() < 0.8 else set()
        elif name in ("die", "restart"):
            getattr(world, name)(*arguments)
        world.running &= world.paths.keys()
        world.check()
    world.serve_all()
    assert not world.scripts.members("running")
    assert world.scripts.client.call("KEYS", "*") in ([], [KEYS[0].encode()])


def test_keys_expire_when_nobody_renews_them(clients: tuple[Resp, Resp]) -> None:
    world = World(ScriptQueue(*clients, slots=1))
    for n in range(3):
        world.enter(0, n, 0, short=True)
    keys = {key.decode() for key in clients[0].call("KEYS", "*")}
    times = {key: clients[0].call("TTL", key) for key in keys}
    assert keys == set(KEYS)
    assert times.pop(KEYS[0]) == pytest.approx(86_400, abs=2)
    assert all(2 * LEASE - 2 <= seconds <= 2 * LEASE + 2 for seconds in times.values())
