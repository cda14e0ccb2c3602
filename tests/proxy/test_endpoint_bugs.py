"""Bugs at the edge: in functions of `Exchange.on_end`, and after an error that causes itself."""

from __future__ import annotations

from functools import partial

import pytest

from pipeline import Send, Stage
from pipeline.chain import Chain
from proxy.endpoint import PipelineEndpoint
from proxy.request_body import BodyBudget
from stages.events import HttpRequest, HttpResponse, ResponseBody, ResponseStart
from stages.exchange import Exchange
from stages.messages_api.errors import ConflictError
from tests.proxy.support import Server


async def respond(stage: Stage[HttpRequest, HttpResponse]) -> Server:
    """The response of a chain with this stage only."""
    server = Server()
    chain = Chain.of((stage,), HttpRequest)
    await PipelineEndpoint("test", chain, BodyBudget(1000))(
        server.scope(), server.receive, server.send
    )
    return server


@pytest.mark.parametrize("names", ["ab", "Xab", "aXb", "abX", "XXaXXbXX", "X"])
async def test_a_bug_of_one_function_at_the_end_does_not_stop_the_others(
    names: str, caplog: pytest.LogCaptureFixture
) -> None:
    called = ""

    class Recorded(Stage[HttpRequest, HttpResponse]):
        async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
            event.exchange.on_end += [partial(call, name) for name in names]
            await forward(ResponseStart(200, {}))
            await forward(ResponseBody(b""))

    def call(name: str, exchange: Exchange) -> None:
        nonlocal called
        called += name
        assert exchange.outcome == "complete"
        if name == "X":
            raise KeyError(name)

    assert (await respond(Recorded())).status == 200
    assert called == names
    assert caplog.text.count("KeyError (set LLM_PROXY_LOG=debug") == names.count("X")


@pytest.mark.parametrize("errors", [1, 2, 3])
async def test_a_bug_after_errors_that_are_their_own_cause_is_logged(
    errors: int, caplog: pytest.LogCaptureFixture
) -> None:
    chain = [ConflictError(str(number)) for number in range(errors)]
    for error, cause in zip(chain, [*chain[1:], chain[0]], strict=True):
        error.__cause__ = cause

    class Faulty(Stage[HttpRequest, HttpResponse]):
        async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
            try:
                raise chain[0]
            except ConflictError:
                raise KeyError("bug")  # noqa: B904 - a bug has no `from`

    server = await respond(Faulty())
    assert server.status == 500
    assert caplog.text.count("ConflictError (set LLM_PROXY_LOG=debug") == errors
    assert "KeyError (set LLM_PROXY_LOG=debug" in caplog.text
