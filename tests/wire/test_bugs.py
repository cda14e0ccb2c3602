"""Stages that fail: the log has the traceback of a bug, and the client does not."""

from __future__ import annotations

import contextlib
import http.client
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import body
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import completion, streamed, whole
from tests.wire.client import MODES, Client, error_in
from tests.wire.proxy import config_text, proxy

NAME = "faulty_stages_for_a_test"

MODULE = '''
from typing import Any

from attrs import frozen

from pipeline import Send, Stage
from stages.events import HttpResponse, ResponseBody, ResponseStart
from stages.messages_api.errors import ApiError, ConflictError
from stages.messages_api.stream_events import StreamEvent


class OddError(ApiError):
    """An error of a kind of its own."""

    status = 418
    type = "teapot_error"


ERRORS = {
    "bug": RuntimeError("the secret is 4711"),
    "conflict": ConflictError("someone else", headers={"x-why": "a\\nb"}, details={"by": "me"}),
    "odd": OddError("short and stout"),
}


@frozen
class Break(Stage[StreamEvent, StreamEvent]):
    """Raises one of ERRORS where an event of type `at` comes."""

    raises: str
    at: str

    async def handle(self, event: StreamEvent, forward: Send[StreamEvent]) -> None:
        if event.type == self.at:
            raise ERRORS[self.raises]
        await forward(event)


@frozen
class Swallow(Stage[StreamEvent, StreamEvent]):
    """Forwards only events of one type."""

    after: str

    async def handle(self, event: StreamEvent, forward: Send[StreamEvent]) -> None:
        if event.type == self.after:
            await forward(event)


@frozen
class HalfJson(Stage[StreamEvent, StreamEvent | HttpResponse]):
    """Answers with half of a body."""

    async def handle(self, event: StreamEvent, forward: Send[HttpResponse]) -> None:
        await forward(ResponseStart(200, {"content-type": "text/json", "content-length": "9"}))
        await forward(ResponseBody(b'{"a"', more=True))
        raise ERRORS["conflict"]


@frozen
class OddHead(Stage[StreamEvent, StreamEvent | HttpResponse]):
    """Respond with a head that is not valid HTTP."""

    status: int = 200
    header: str = "x-fine"

    async def handle(self, event: StreamEvent, forward: Send[HttpResponse]) -> None:
        await forward(ResponseStart(self.status, {self.header: "1"}))
        await forward(ResponseBody(b""))
'''


@pytest.fixture(scope="module")
def backend() -> Iterator[ScriptedBackend]:
    made = ScriptedBackend()
    yield made
    made.close()


@contextlib.contextmanager
def serving(folder: Path, backend: ScriptedBackend, stage: str, stream: bool) -> Iterator[Client]:
    """A client of a proxy with one of the stages in MODULE."""
    (folder / f"{NAME}.py").write_text(MODULE)
    backend.responses = [(streamed("Hello") if stream else whole(200, completion()),)]
    with proxy(folder, config_text(backend.url, stages=[f"{NAME}:{stage}"])) as url:
        client = Client(url)
        yield client
        client.close()


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The bugs in the log."""
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


@MODES
def test_a_bug_before_the_first_byte_is_a_500_without_details(
    stream: bool, tmp_path: Path, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    stage = "Break: {raises: bug, at: message_start}"
    with serving(tmp_path, backend, stage, stream) as client:
        answer = client.post(body(stream=stream))
        assert answer.error == (500, "api_error")
        assert b"4711" not in answer.body
        assert b"RuntimeError" not in answer.body
        assert client.get("/health").status == 200
    (text,) = tracebacks(caplog)
    assert text.endswith("RuntimeError (set LLM_PROXY_LOG=debug to see its message)")
    assert "raise ERRORS[self.raises]" in text
    assert "the secret is" not in text
    assert answer.headers["request-id"] in caplog.text


def test_a_bug_in_a_stream_is_an_error_event_without_details(
    tmp_path: Path, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    stage = "Break: {raises: bug, at: content_block_stop}"
    with serving(tmp_path, backend, stage, stream=True) as client:
        answer = client.post(body(stream=True))
        assert error_in(answer.events[-1])[0] == "api_error"
        assert answer.events[-2]["type"] == "content_block_delta"
        assert b"4711" not in answer.body
        assert client.get("/health").status == 200
    (text,) = tracebacks(caplog)
    assert text.endswith("RuntimeError (set LLM_PROXY_LOG=debug to see its message)")
    assert "raise ERRORS[self.raises]" in text
    assert "the secret is" not in text


def test_a_bug_at_the_end_of_an_unstreamed_response_is_a_500(
    tmp_path: Path, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    stage = "Break: {raises: bug, at: message_stop}"
    with serving(tmp_path, backend, stage, stream=False) as client:
        assert client.post(body()).error == (500, "api_error")
    assert len(tracebacks(caplog)) == 1


@MODES
@pytest.mark.parametrize(
    ("raises", "status", "kind"),
    [("conflict", 409, "conflict_error"), ("odd", 418, "teapot_error")],
)
def test_an_api_error_of_a_stage_keeps_its_status(
    raises: str,
    status: int,
    kind: str,
    stream: bool,
    tmp_path: Path,
    backend: ScriptedBackend,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage = f"Break: {{raises: {raises}, at: message_start}}"
    with serving(tmp_path, backend, stage, stream) as client:
        assert client.post(body(stream=stream)).error == (status, kind)
    assert not tracebacks(caplog)


def test_an_api_errors_headers_and_details_are_sent(
    tmp_path: Path, backend: ScriptedBackend
) -> None:
    stage = "Break: {raises: conflict, at: message_start}"
    with serving(tmp_path, backend, stage, stream=True) as client:
        answer = client.post(body(stream=True))
    assert answer.headers["x-why"] == "a?b"
    assert answer.json["error"]["details"] == {"by": "me"}


def test_an_api_error_in_the_middle_of_a_stream_keeps_its_type(
    tmp_path: Path, backend: ScriptedBackend
) -> None:
    stage = "Break: {raises: conflict, at: message_delta}"
    with serving(tmp_path, backend, stage, stream=True) as client:
        error = client.post(body(stream=True)).events[-1]
    assert error_in(error) == ("conflict_error", "someone else")


@MODES
def test_a_pipeline_without_a_response_is_a_500(
    stream: bool, tmp_path: Path, backend: ScriptedBackend
) -> None:
    with serving(tmp_path, backend, "Swallow: {after: nothing}", stream) as client:
        answer = client.post(body(stream=stream))
        assert answer.error == (500, "api_error")
        assert answer.json["error"]["message"] == "the pipeline ended without a response"
        assert client.get("/health").status == 200


def test_a_stream_without_its_last_event_is_an_error(
    tmp_path: Path, backend: ScriptedBackend
) -> None:
    with serving(tmp_path, backend, "Swallow: {after: message_start}", stream=True) as client:
        events = client.post(body(stream=True)).events
    assert [event["type"] for event in events] == ["message_start", "error"]


def test_an_incomplete_body_closes_the_connection(tmp_path: Path, backend: ScriptedBackend) -> None:
    with serving(tmp_path, backend, "HalfJson", stream=False) as client:
        with pytest.raises(http.client.IncompleteRead) as caught:
            client.post(body())
        assert caught.value.partial == b'{"a"'
        assert client.socket.recv(1) == b""


@pytest.mark.parametrize("options", ["{header: x y}", "{status: 99}"])
def test_a_head_that_cannot_be_sent_is_a_bug(
    options: str, tmp_path: Path, backend: ScriptedBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "llm_proxy")
    with (
        serving(tmp_path, backend, f"OddHead: {options}", stream=False) as client,
        pytest.raises(http.client.RemoteDisconnected),
    ):
        client.post(body())
    assert "pipeline `messages` failed" in tracebacks(caplog)[0]
    assert any(line.endswith(" outcome=aborted") for line in caplog.messages)
    assert "Exception in ASGI application" not in caplog.text  # whose texts could be a prompt's
