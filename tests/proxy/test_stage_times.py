"""The times of stages with a request: proxy/stage_times.py, on a clock of the test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import frozen
from trio.testing import MockClock

from pipeline import Send, Stage
from pipeline.chain import Chain
from pipeline.config.problems import Location
from pipeline.config.schema import Pipeline
from proxy.config import read
from proxy.request_body import BodyBudget
from proxy.routes import RoutingTable
from proxy.stage_times import RequestStages
from stages.events import (
    Authenticated,
    ChatChunk,
    ChatEvent,
    ChatRequest,
    ChatStart,
    ChatWaiting,
    HttpRequest,
    HttpResponse,
    Resolved,
    ResponseBody,
)
from stages.messages_api.errors import OverloadedError
from stages.retry import Retry
from stages.translation.request import chat_request
from tests.support import profile, resolved
from tests.wire.proxy import METRICS, config_text

#: Began, forwarded, ended; seconds since the start of the run.
Times = tuple[str, float, float | None, float | None]


@pytest.fixture
def anyio_backend() -> Any:
    """Trio, with a clock that jumps as soon as all tasks wait."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@frozen
class Enter(Stage[HttpRequest, Resolved]):
    """Takes 1 s before it forwards, and 1 s after."""

    async def handle(self, event: HttpRequest, forward: Send[Resolved]) -> None:
        await anyio.sleep(1)
        await forward(Resolved(event, resolved().request, resolved().target))
        await anyio.sleep(1)


@frozen
class Translate(Stage[Resolved, ChatRequest]):
    async def handle(self, event: Resolved, forward: Send[ChatRequest]) -> None:
        await anyio.sleep(2)
        await forward(chat_request(event, profile()))


@frozen
class Wait(Stage[ChatRequest, ChatRequest | ChatWaiting]):
    async def handle(self, event: ChatRequest, forward: Send[Any]) -> None:
        await forward(ChatWaiting(event))
        await anyio.sleep(4)
        await forward(event)


@frozen
class Call(Stage[ChatRequest, ChatEvent]):
    """Fails `failures` times after 8 s; then 3 parts, 16 s apart."""

    failures: list[int]

    async def handle(self, event: ChatRequest, forward: Send[ChatEvent]) -> None:
        await anyio.sleep(8)
        if self.failures[0]:
            self.failures[0] -= 1
            raise OverloadedError("try again", headers={"retry-after": "0"})
        await forward(ChatStart(event))
        event.exchange.response_started = anyio.current_time()
        for _ in range(2):
            await anyio.sleep(16)
            await forward(ChatChunk({}))


@frozen
class Respond(Stage[ChatEvent, HttpResponse]):
    async def handle(self, event: ChatEvent, forward: Send[HttpResponse]) -> None:
        await forward(ResponseBody(b"x"))


def pipeline(**stages: Stage[Any, Any]) -> Pipeline:
    everything = tuple(stages.values())
    chain = Chain.of(everything, HttpRequest)
    locations = (Location(),) * len(everything)
    return Pipeline("test", (), everything, chain, locations, tuple(stages))


async def times(**stages: Stage[Any, Any]) -> list[Times]:
    """Run a request through the stages, and give the times of its StageRuns."""

    async def forget(event: Any) -> None: ...

    began = anyio.current_time()
    event = HttpRequest("POST", "/")
    observed = RequestStages.of(pipeline(**stages)).observe(event.exchange)
    observed.now = anyio.current_time
    with contextlib.suppress(OverloadedError):
        await pipeline(**stages).chain.run(event, forget, observed)

    def since(time: float | None) -> float | None:
        return None if time is None else round(time - began, 1)

    return [
        (run.stage, since(run.began) or 0.0, since(run.forwarded), since(run.ended))
        for run in event.exchange.stages
    ]


async def test_each_stage_that_gets_the_request_has_a_run() -> None:
    """Those after the backend's call get the response only."""
    runs = await times(
        enter=Enter(), translate=Translate(), wait=Wait(), call=Call([0]), respond=Respond()
    )

    assert runs == [
        ("enter", 0, 1, 48),
        ("translate", 1, 3, 47),
        ("wait", 3, 7, 47),  # ChatWaiting is not the request
        ("call", 7, 15, 47),  # forwarded: when the response started
    ]


async def test_a_repeated_request_has_a_run_for_each_time() -> None:
    runs = await times(
        enter=Enter(),
        retry=Retry(attempts=3, max_wait=0.001),
        translate=Translate(),
        call=Call([2]),
        respond=Respond(),
    )

    assert [run for run in runs if run[0] == "call"] == [
        ("call", 3, None, 11),
        ("call", 13, None, 21),  # after 2 s of `translate`
        ("call", 23, 31, 63),
    ]
    assert [run[:3] for run in runs if run[0] == "retry"] == [("retry", 1, 1)]
    assert [run[0] for run in runs] == [
        *("enter", "retry", "translate", "call"),
        *("translate", "call") * 2,
    ]


async def test_a_stage_that_fails_has_an_end() -> None:
    runs = await times(enter=Enter(), translate=Translate(), call=Call([1]), respond=Respond())

    assert runs == [("enter", 0, 1, 11), ("translate", 1, 3, 11), ("call", 3, None, 11)]


@frozen
class Cache(Stage[Resolved, Resolved | ChatEvent]):
    async def handle(self, event: Resolved, forward: Send[Any]) -> None:
        await anyio.sleep(1)
        for _ in range(3):
            await forward(ChatChunk({}))
        await anyio.sleep(1)


async def test_a_stage_that_responds_itself_forwards_its_first_part() -> None:
    """Later stages that only let the response pass have no run."""
    runs = await times(
        enter=Enter(), cache=Cache(), translate=Translate(), call=Call([0]), respond=Respond()
    )

    assert runs == [("enter", 0, 1, 4), ("cache", 1, 2, 3)]


@frozen
class Again(Stage[Resolved, Resolved]):
    async def handle(self, event: Resolved, forward: Send[Resolved]) -> None:
        for _ in range(1000):
            await forward(event)


async def test_the_runs_of_an_exchange_are_bounded() -> None:
    runs = await times(
        enter=Enter(), again=Again(), translate=Translate(), call=Call([0]), respond=Respond()
    )

    assert len(runs) == 100


@frozen
class Skip(Stage[Authenticated, Authenticated]):
    """Accepts nothing that Enter forwards."""

    async def handle(self, event: Authenticated, forward: Send[Authenticated]) -> None:
        raise AssertionError


@frozen
class Choose(Stage[HttpRequest, Authenticated | Resolved]):
    async def handle(self, event: HttpRequest, forward: Send[Any]) -> None:
        await forward(Resolved(event, resolved().request, resolved().target))


async def test_a_stage_that_the_request_passes_by_has_no_run() -> None:
    runs = await times(
        choose=Choose(), skip=Skip(), translate=Translate(), call=Call([0]), respond=Respond()
    )

    assert [run[0] for run in runs] == ["choose", "translate", "call"]


def endpoints(tmp_path: Path, edit: Callable[[str], str]) -> Mapping[str, Any]:
    """The endpoints of the usual config, by the name of their pipeline."""
    file = tmp_path / "pipelines.yaml"
    file.write_text(edit(config_text("http://127.0.0.1:1") + METRICS))
    config = read(str(file), {})
    table = RoutingTable.of(config, BodyBudget(1000), {}, None, "127.0.0.1")
    return {endpoint.name: endpoint for endpoint in table.endpoints}


def test_without_a_reader_nothing_is_observed(tmp_path: Path) -> None:
    usual = endpoints(tmp_path, lambda text: text)

    assert [endpoint.observe for endpoint in usual.values()] == [None] * len(usual)


def test_the_usual_pipeline_is_watched_up_to_its_call(tmp_path: Path) -> None:
    """No arrow with the backend's response is watched."""
    switched_on = "- metrics: {stage_times: true}\n"
    endpoint = endpoints(tmp_path, lambda text: text.replace("- metrics\n", switched_on))[
        "messages"
    ]
    observer = endpoint.observe(HttpRequest("POST", "/").exchange)

    async def send(event: object) -> None: ...

    arrows = range(len(endpoint.chain.links) + 1)
    watched = [arrow for arrow in arrows if observer.watch(arrow, send) is not send]
    kinds = [type(link.stage).__name__ for link in endpoint.chain.links]
    assert watched == list(range(kinds.index("Invoke") + 1))
