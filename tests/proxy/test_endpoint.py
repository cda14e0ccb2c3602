"""The edge alone: an ASGI app around a chain, with what a server says scripted."""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from attrs import evolve

from pipeline import Send, Stage
from pipeline.chain import Chain
from proxy.endpoint import PipelineEndpoint, ResponseWriter, send_error
from proxy.request_body import BodyBudget
from stages.counters import Counters
from stages.events import HttpRequest, HttpResponse, ResponseBody, ResponseStart
from stages.exchange import Exchange
from stages.messages_api.errors import ConflictError, InternalError, NotFoundError, RateLimitError
from stages.wire.ids import new_request_id
from tests.cases import for_each
from tests.proxy.support import DISCONNECT, Server, part

Handle = Callable[[HttpRequest, Send[HttpResponse]], Awaitable[None]]


def endpoint(handle: Handle) -> PipelineEndpoint:
    """An endpoint whose chain is one stage that calls `handle`."""

    class Only(Stage[HttpRequest, HttpResponse]):
        async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
            await handle(event, forward)

    return PipelineEndpoint("test", Chain.of((Only(),), HttpRequest), BodyBudget(1000))


async def run(handle: Handle, server: Server | None = None, **changes: Any) -> Server:
    """One request through `handle`."""
    server = server or Server()
    await endpoint(handle)(server.scope(**changes), server.receive, server.send)
    return server


async def hello(_: HttpRequest, forward: Send[HttpResponse]) -> None:
    """Answers at once."""
    await forward(ResponseStart(200, {"content-type": "text/plain"}))
    await forward(ResponseBody(b"Hel", more=True))
    await forward(ResponseBody(b"lo"))


STREAM = ResponseStart(200, {"content-type": "text/event-stream; charset=utf-8"})


async def test_each_response_is_counted_by_its_status() -> None:
    async def waits(request: HttpRequest, forward: Send[HttpResponse]) -> None:
        leaving.signals.disconnect()
        await anyio.sleep_forever()

    counts, leaving = Counters(), Server()
    for handle, server in ((hello, Server()), (waits, leaving)):
        await evolve(endpoint(handle), counts=counts)(server.scope(), server.receive, server.send)
    assert counts.responses == {("test", "200"): 1, ("test", "none"): 1}


class TestResponse:
    async def test_a_response_is_sent_in_parts_with_the_request_id(self) -> None:
        server = await run(hello)
        assert (server.status, server.body) == (200, b"Hello")
        assert [message.get("more_body") for message in server.sent] == [None, True, False]
        assert server.headers["request-id"].startswith("req_")

    async def test_each_request_has_an_id_of_its_own(self) -> None:
        seen = []

        async def note(request: HttpRequest, forward: Send[HttpResponse]) -> None:
            seen.append(request.exchange.id)
            await hello(request, forward)

        reported = [(await run(note)).headers["request-id"] for _ in range(2)]
        assert seen == reported
        assert len(set(reported)) == 2

    @for_each(
        ("value", "sent"),
        [
            ("a\r\nset-cookie: b", "a??set-cookie: b"),
            ("\x00\x1f\x7f", "???"),
            ("tab\t", "tab\t"),
            ("é", "é"),
            ("漢\u2028", "??"),
        ],
        ids=["lines", "controls", "tab", "latin-1", "beyond"],
    )
    async def test_characters_that_a_header_cannot_have_are_replaced(
        self, value: str, sent: str
    ) -> None:
        async def odd(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            await forward(ResponseStart(200, {"x-odd": value}))
            await forward(ResponseBody(b""))

        assert (await run(odd)).headers["x-odd"] == sent


class TestRequest:
    async def seen(self, **changes: Any) -> HttpRequest:
        found = []

        async def note(request: HttpRequest, forward: Send[HttpResponse]) -> None:
            found.append(request)
            await hello(request, forward)

        await run(note, **changes)
        return found[0]

    async def test_names_of_headers_are_lower_case_and_repeated_ones_joined(self) -> None:
        given = [("X-Thing", "a"), ("x-thing", "b"), ("Other", "é")]
        request = await self.seen(headers=given)
        assert request.headers == {"x-thing": "a, b", "other": "é"}

    async def test_the_query_is_decoded(self) -> None:
        request = await self.seen(query_string=b"a=1&b=x%2Fy+z&a=2&empty=&c=%ff")
        assert request.query == {"a": "2", "b": "x/y z", "c": "\ufffd"}

    async def test_the_request_has_its_path_and_parameters(self) -> None:
        request = await self.seen(path="/v1/models/a", path_params={"id": "a"}, method="GET")
        assert (request.method, request.path, request.path_params) == (
            "GET",
            "/v1/models/a",
            {"id": "a"},
        )

    @for_each("length", ["", "-1", "1e3", "\xb2", "abc"])
    async def test_a_content_length_that_is_not_a_number_is_ignored(self, length: str) -> None:
        async def read(request: HttpRequest, forward: Send[HttpResponse]) -> None:
            assert await request.read_body(5) == b"Hello"
            await hello(request, forward)

        server = Server([part(b"Hello")])
        await run(read, server, headers=[("content-length", length)])
        assert server.status == 200


class TestFailures:
    async def test_an_api_error_before_the_response_has_its_status_and_headers(self) -> None:
        async def refuse_it(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            raise RateLimitError("slow down", headers={"retry-after": "7"})

        server = await run(refuse_it)
        assert server.status == 429
        assert server.headers["retry-after"] == "7"
        assert server.headers["content-type"] == "application/json"
        assert server.headers["content-length"] == str(len(server.body))
        assert json.loads(server.body) == {
            "type": "error",
            "error": {"type": "rate_limit_error", "message": "slow down"},
            "request_id": server.headers["request-id"],
        }

    async def test_an_api_error_in_a_stream_is_its_last_event(self) -> None:
        async def fail(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            await forward(STREAM)
            await forward(ResponseBody(b"event: ping\ndata: {}\n\n", more=True))
            raise ConflictError("someone else")

        server = await run(fail)
        assert server.status == 200
        assert server.body.count(b"event: error\n") == 1
        assert server.sent[-1]["more_body"] is False

    async def test_an_api_error_in_another_body_breaks_it_off(self) -> None:
        async def fail(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            await forward(ResponseStart(200, {"content-type": "application/json"}))
            await forward(ResponseBody(b"{", more=True))
            raise ConflictError("someone else")

        server = await run(fail)
        assert server.body == b"{"
        assert server.sent[-1]["more_body"] is True

    @pytest.mark.parametrize("start", [STREAM, ResponseStart(200)], ids=["stream", "other"])
    async def test_an_error_after_the_end_is_only_logged(
        self, start: ResponseStart, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            await forward(start)
            await forward(ResponseBody(b"whole"))
            raise RuntimeError("too late")

        server = await run(fail)
        assert server.body == b"whole"
        assert "RuntimeError (set LLM_PROXY_LOG=debug to see its message" in caplog.text

    async def test_a_bug_is_a_500_without_details(self, caplog: pytest.LogCaptureFixture) -> None:
        async def fail(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            raise RuntimeError("the secret is 4711")

        server = await run(fail)
        assert server.status == 500
        assert json.loads(server.body)["error"]["type"] == "api_error"
        assert b"4711" not in server.body
        assert "RuntimeError (set LLM_PROXY_LOG=debug to see its message" in caplog.text

    async def test_errors_of_several_tasks_are_a_bug(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def fail(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            raise ExceptionGroup("two", [ValueError("one"), ConflictError("other")])

        assert (await run(fail)).status == 500
        assert "ValueError (set LLM_PROXY_LOG=debug to see its message" in caplog.text

    async def test_no_response_is_a_500(self) -> None:
        async def nothing(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            pass

        server = await run(nothing)
        assert server.status == 500
        assert b"the pipeline ended without a response" in server.body

    async def test_an_incomplete_stream_ends_with_an_error(self) -> None:
        async def half(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            await forward(STREAM)

        server = await run(half)
        assert b"event: error\n" in server.body
        assert server.sent[-1]["more_body"] is False

    async def test_an_error_without_a_pipeline_is_sent(self) -> None:
        server = Server()
        await send_error(NotFoundError("nothing"), server.scope(), server.receive, server.send)
        assert server.status == 404
        assert json.loads(server.body)["request_id"] == server.headers["request-id"]


class TestDisconnect:
    async def test_a_disconnect_cancels_the_chain(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "llm_proxy")
        server, cancelled = Server(), anyio.Event()

        async def wait(request: HttpRequest, forward: Send[HttpResponse]) -> None:
            await request.read_body(9)
            await forward(STREAM)
            server.signals.disconnect()
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.set()

        await run(wait, server)
        assert cancelled.is_set()
        assert len(server.sent) == 1
        assert caplog.messages[-1].endswith(" outcome=client_disconnected")

    async def test_a_disconnect_in_the_body_gets_no_response(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "llm_proxy")

        async def read(request: HttpRequest, forward: Send[HttpResponse]) -> None:
            await request.read_body(9)

        server = await run(read, Server([part(b"Hel", more=True), DISCONNECT]))
        assert not server.sent
        assert caplog.messages[-1].endswith(" outcome=client_disconnected")

    async def test_a_disconnect_before_the_request_begins_calls_no_stage(self) -> None:
        server = Server()
        server.signals.disconnect()
        await run(hello, server)
        assert not server.sent

    async def test_a_disconnect_after_the_response_changes_nothing(self) -> None:
        server = await run(hello)
        server.signals.disconnect()
        assert server.body == b"Hello"

    async def test_a_stage_cleans_up_after_a_disconnect(self) -> None:
        server, closed = Server(), []

        async def hold(request: HttpRequest, forward: Send[HttpResponse]) -> None:
            await request.read_body(9)
            try:
                server.signals.disconnect()
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.lowlevel.checkpoint()
                    closed.append(True)

        await run(hold, server)
        assert closed == [True]


class TestLog:
    @pytest.mark.parametrize(
        ("start", "data", "ending"),
        [
            (200, ResponseBody(b"Hi"), "s"),
            (200, ResponseBody(b"Hi", more=True), " outcome=aborted"),
        ],
        ids=["whole", "half"],
    )
    async def test_each_request_is_one_line(
        self,
        start: int,
        data: ResponseBody,
        ending: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO, "llm_proxy")

        async def say(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            await forward(ResponseStart(start))
            await forward(data)

        server = await run(say)
        line = caplog.messages[-1]
        assert line.startswith(f"{server.headers['request-id']} POST /v1/messages 200 0.")
        assert line.endswith(ending)

    async def test_an_error_is_in_the_line_without_what_was_quoted(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "llm_proxy")

        async def fail(_: HttpRequest, forward: Send[HttpResponse]) -> None:
            raise ConflictError("someone else said: PROMPT", quoted=["PROMPT"])

        await run(fail)

        [line] = caplog.messages
        assert " 409 " in line
        assert line.endswith(' error=conflict_error message="someone else said: …"')


def test_ids_are_unique() -> None:
    assert len({new_request_id() for _ in range(1000)}) == 1000


async def test_a_responder_has_its_progress() -> None:
    server = Server()
    responder = ResponseWriter(server.send, Exchange())
    assert (responder.exchange.status, responder.stream, responder.complete) == (0, False, False)
    await responder.write(STREAM)
    assert (responder.exchange.status, responder.stream, responder.complete) == (200, True, False)
    await responder.write(ResponseBody(b"", more=False))
    assert responder.complete


async def test_a_header_that_cannot_be_sent_does_not_cost_the_error() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    responder = ResponseWriter(send, Exchange())
    with pytest.raises(UnicodeEncodeError):
        await responder.write(ResponseStart(200, {"x-€": "1"}))
    await responder.fail(InternalError("it failed"))
    assert sent[0]["status"] == 500


@pytest.mark.parametrize(
    ("unsent", "reported"), [(ResponseStart(), (0, False)), (ResponseBody(b"x"), (200, False))]
)
async def test_an_event_that_was_not_sent_is_not_recorded(
    unsent: HttpResponse, reported: tuple[int, bool]
) -> None:
    async def hang(message: Any) -> None:
        await anyio.sleep_forever()

    responder = ResponseWriter(hang, Exchange(status=reported[0]))
    with anyio.move_on_after(0.01):
        await responder.write(unsent)
    assert (responder.exchange.status, responder.complete) == reported


@for_each("kind", [InternalError, ValueError])
@for_each("cause", [None, KeyError("a cause")], ids=["alone", "with-a-cause"])
async def test_a_request_that_fails_is_not_kept_in_memory(
    cause: Exception | None, kind: type[Exception]
) -> None:
    kept: list[weakref.ref[HttpRequest]] = []

    async def fail(request: HttpRequest, _: Send[HttpResponse]) -> None:
        kept.append(weakref.ref(request))
        failure = kind("the frame holds the error, which holds the frame")
        try:
            raise ValueError("another one")
        except ValueError:
            raise failure from cause

    await run(fail)
    assert kept[0]() is None, "until the garbage collector runs"
