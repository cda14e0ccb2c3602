"""The stage `translate-in`."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Iterable

from anyio import to_thread
from attrs import Factory, frozen

from pipeline import Send, Stage, option, section
from stages.backends.backend import Backend
from stages.counts import Counts
from stages.events import ChatRequest, Resolved
from stages.translation.request import chat_request
from stages.wire import messages as m

log = logging.getLogger("llm_proxy")

_SHOWN = 1000  # characters: clients can name as many fields as they like


@frozen
class TranslateIn(Stage[Resolved, ChatRequest]):
    """Translates a Messages request into the Chat Completions of its backend's profile."""

    backends: dict[str, Backend] = section("backends")
    strict: bool = option(False, help="refuse what would be dropped or changed, with a 400")
    counts: Counts = section("metrics", Factory(Counts))

    def handle(self, event: Resolved, forward: Send[ChatRequest]) -> Awaitable[None]:
        if _has_pdf(event.request):
            return self._in_a_thread(event, forward)
        request = self._translated(event)
        self._tell(request)
        return forward(request)

    async def _in_a_thread(self, event: Resolved, forward: Send[ChatRequest]) -> None:
        """To read a PDF can take seconds."""
        request = await to_thread.run_sync(self._translated, event)
        self._tell(request)
        await forward(request)

    def _translated(self, event: Resolved) -> ChatRequest:
        backend = self.backends[event.target.backend]
        profile = backend.profile_for(event.target)
        line = backend.calibration.line(event.target.model)
        return chat_request(event, profile, self.strict, line)

    def _tell(self, request: ChatRequest) -> None:
        """Log and count what was dropped or changed. The client is told by `stream-encode`."""
        if not request.notes:
            return
        target = request.resolved.target
        for field, what in request.changes:
            self.counts.degraded[target.backend, field, what] += 1
        log.info(
            "degraded request_id=%s backend=%s model=%s notes=%s",
            request.resolved.http.request_id,
            *map(json.dumps, (target.backend, target.model, ",".join(request.notes)[:_SHOWN])),
        )


def _has_pdf(request: m.MessagesRequest) -> bool:
    return any(_holds_pdf(message.content) for message in request.messages)


def _holds_pdf(blocks: Iterable[m.Block]) -> bool:
    for block in blocks:
        if isinstance(block, m.DocumentBlock) and isinstance(block.source, m.Base64Source):
            return True
        if _holds_pdf(getattr(block, "content", ())):
            return True
    return False
