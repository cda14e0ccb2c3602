"""The stage `repair-tools`."""

from __future__ import annotations

from attrs import evolve, frozen

from pipeline import Send, Stage
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatRequest, ChatStart
from stages.tool_repair.repair import ResponseRepair, tool_schemas


@frozen
class RepairTools(Stage[ChatStart | ChatChunk | ChatEnd, ChatEvent]):
    """Mends the tool calls of weak models: those written as text, and those with broken JSON.

    A call in the text counts if it is one of a tool that the request has, in one of the known
    formats. Arguments that do not fit the tool's schema are repaired where that makes them fit.
    For that, the arguments of a call arrive in one piece, when the answer is over.
    """

    def receiver(self, forward: Send[ChatEvent]) -> Send[ChatEvent]:
        """With the repair of one answer, anew for each attempt at it."""
        repair: ResponseRepair | None = None

        async def receive(event: ChatEvent) -> None:
            nonlocal repair
            if isinstance(event, ChatStart):
                known = tool_schemas(event.request)
                repair = ResponseRepair(event.request, known) if known else None
                event = ChatStart(_read(event.request)) if known else event
            elif repair and isinstance(event, ChatChunk):
                *before, data = repair.repair_chunk(event.data)
                for each in before:
                    await forward(ChatChunk(each, more_buffered=True))
                event = ChatChunk(data, event.more_buffered)
            elif repair and isinstance(event, ChatEnd):
                for each in repair.finish(event.done):
                    await forward(ChatChunk(each, more_buffered=True))
                repair.request.exchange.repaired_calls += repair.outcomes
            await forward(event)

        return receive


def _read(request: ChatRequest) -> ChatRequest:
    """The request for later stages: these of its ways to be read are done with here."""
    return evolve(request, think_tags=(), echoed_prefill="")
