"""The stage `repair-tools`."""

from __future__ import annotations

from attrs import evolve, frozen

from pipeline import Send, Stage
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatRequest, ChatStart
from stages.tool_repair.repair import ResponseRepair, tool_schemas


@frozen
class RepairTools(Stage[ChatStart | ChatChunk | ChatEnd, ChatEvent]):
    """Repair tool calls of weak models: calls written as text, and calls with broken JSON.

    A call in the text counts if the request has the tool, and the format is known. Arguments that
    do not fit the tool's schema are repaired if they fit afterwards. So the arguments of a call are
    forwarded in one piece, at the end of the response.
    """

    def receiver(self, forward: Send[ChatEvent]) -> Send[ChatEvent]:
        """Make a new repair for each attempt at the response."""
        repair: ResponseRepair | None = None

        async def receive(event: ChatEvent) -> None:
            nonlocal repair
            if isinstance(event, ChatStart):
                schemas = tool_schemas(event.request)
                repair = ResponseRepair(event.request, schemas) if schemas else None
                event = ChatStart(_without_markup(event.request)) if schemas else event
            elif repair and isinstance(event, ChatChunk):
                *before, data = repair.repair_chunk(event.data)
                for chunk in before:
                    await forward(ChatChunk(chunk, more_buffered=True))
                event = ChatChunk(data, event.more_buffered)
            elif repair and isinstance(event, ChatEnd):
                for chunk in repair.finish(event.done):
                    await forward(ChatChunk(chunk, more_buffered=True))
            await forward(event)
            if repair and isinstance(event, ChatEnd):  # not earlier: another attempt may follow
                repair.request.exchange.repaired_calls += repair.outcomes

        return receive


def _without_markup(request: ChatRequest) -> ChatRequest:
    """The request for later stages: this stage has read the think tags and the echoed prefill."""
    return evolve(request, think_tags=(), echoed_prefill="")
