"""The stage `repair-tools`."""

from __future__ import annotations

import json
import logging
from collections import Counter

from attrs import Factory, evolve, frozen

from pipeline import Send, Stage, section
from stages.counters import Counts
from stages.events import ChatAnswer, ChatChunk, ChatEnd, ChatRequest, ChatStart
from stages.tool_repair.repair import AnswerRepair, tools

log = logging.getLogger("llm_proxy")


@frozen
class RepairTools(Stage[ChatStart | ChatChunk | ChatEnd, ChatAnswer]):
    """Mends the tool calls of weak models: those written as text, and those with broken JSON.

    A call in the text counts if it is one of a tool that the request has, in one of the known
    formats. Arguments that do not fit the tool's schema are repaired where that makes them fit.
    For that, the arguments of a call arrive in one piece, when the answer is over.
    """

    counts: Counts = section("metrics", Factory(Counts))

    def receiver(self, forward: Send[ChatAnswer]) -> Send[ChatAnswer]:
        """With the repair of one answer, anew for each attempt at it."""
        repair: AnswerRepair | None = None

        async def receive(event: ChatAnswer) -> None:
            nonlocal repair
            if isinstance(event, ChatStart):
                known = tools(event.request)
                repair = AnswerRepair(event.request, known) if known else None
                event = ChatStart(_read(event.request)) if known else event
            elif repair and isinstance(event, ChatChunk):
                *before, data = repair.chunk(event.data)
                for each in before:
                    await forward(ChatChunk(each, followed=True))
                event = ChatChunk(data, event.followed)
            elif repair and isinstance(event, ChatEnd):
                for each in repair.end(event.done):
                    await forward(ChatChunk(each, followed=True))
                self._tell(repair)
            await forward(event)

        return receive

    def _tell(self, repair: AnswerRepair) -> None:
        """Log and count what was done."""
        resolved = repair.request.resolved
        backend = resolved.target.backend
        for what, times in Counter(repair.done).items():
            self.counts.repaired_tool_calls[backend, what] += times
        if repair.done:
            log.info(
                "repaired request_id=%s backend=%s model=%s calls=%s",
                resolved.http.request_id,
                *map(json.dumps, (backend, resolved.target.model, ",".join(repair.done))),
            )


def _read(request: ChatRequest) -> ChatRequest:
    """The request for later stages: these of its ways to be read are done with here."""
    return evolve(request, think_tags=(), repeated="")
