"""The stage `record`."""

from __future__ import annotations

from attrs import Factory, frozen

from pipeline import Send, Stage, section
from stages.events import Validated
from stages.exchange import Exchange
from stages.messages_api.stream_events import BlockDelta, StreamEvent
from stages.recording.lines import HEADERS, Line, ResponseCollector
from stages.recording.section import Recordings


@frozen
class Record(Stage[Validated, Validated]):
    """Record each exchange with its request and response, for `llm-proxy replay` and `explain`.

    The files have prompts. Keys, tokens, passwords and e-mail addresses in them are replaced. The
    section `recordings` has the folder and its limit. Put this stage after `validate`.
    """

    recordings: Recordings = section("recordings", Factory(Recordings))

    async def handle(self, event: Validated, forward: Send[Validated]) -> None:
        body = await event.http.read_body(event.size)  # `validate` has read it
        response, headers, size = ResponseCollector(), event.http.headers, len(body)

        def add(part: StreamEvent) -> None:
            nonlocal size
            if isinstance(part, BlockDelta):
                size += len(part.text)
            response.add(part)

        def write(exchange: Exchange) -> None:
            recorded = {name: headers[name] for name in HEADERS if name in headers}
            line = Line(exchange.as_json(), recorded, body, response.message())
            self.recordings.add(line, size)

        event.exchange.on_stream_event.append(add)
        event.exchange.on_end.append(write)
        await forward(event)
