"""The stage `repair-tools`."""

from __future__ import annotations

import json
import logging
from collections import Counter

from attrs import Factory, evolve, frozen

from pipeline import Send, Stage, section
from stages.counters import Counters
from stages.events import ChatChunk, ChatEnd, ChatEvent, ChatRequest, ChatStart
from stages.tool_repair.repair import ResponseRepair, tool_schemas

log = logging.getLogger("llm_proxy")


@frozen
class RepairTools(Stage[ChatStart | ChatChunk | ChatEnd, ChatEvent]):
    """Mends the tool calls of weak models: those written as text, and those with broken JSON.

    A call in the text counts if it is one of a tool that the request has, in one of the known
    formats. Arguments that do not fit the tool's schema are repaired where that makes them fit.
    For that, the arguments of a call arrive in one piece, when the answer is over.
    """

    counts: Counters = section("metrics", Factory(Counters))

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
                self._count(repair)
            await forward(event)

        return receive

    def _count(self, repair: ResponseRepair) -> None:
        """Log and count what was done."""
        resolved = repair.request.resolved
        backend = resolved.target.backend
        for what, times in Counter(repair.outcomes).items():
            self.counts.repaired_tool_calls[backend, what] += times
        if repair.outcomes:
            log.info(
                "repaired request_id=%s backend=%s model=%s calls=%s",
                resolved.http.request_id,
                *map(json.dumps, (backend, resolved.target.model, ",".join(repair.outcomes))),
            )


def _read(request: ChatRequest) -> ChatRequest:
    """The request for later stages: these of its ways to be read are done with here."""
    return evolve(request, think_tags=(), echoed_prefill="")
