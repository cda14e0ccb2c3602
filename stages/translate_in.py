"""The stage `translate-in`."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable

from attrs import Factory, frozen, validators

from pipeline import Send, Stage, option, section
from stages.backends.backend import Backend
from stages.counters import Counters
from stages.events import ChatRequest, Resolved
from stages.off_loop import LARGE_BODY, off_loop
from stages.pdf.reader import PdfLimits, pdf_reader
from stages.translation.field_policies import PdfTexts
from stages.translation.request import chat_request

log = logging.getLogger("llm_proxy")

_SHOWN = 1000  # characters: clients can name as many fields as they like


@frozen
class TranslateIn(Stage[Resolved, ChatRequest]):
    """Translates a Messages request into the Chat Completions of its backend's profile."""

    backends: dict[str, Backend] = section("backends")
    strict: bool = option(False, help="refuse what would be dropped or changed, with a 400")
    pdf_max_pages: int = option(
        600, help="pages of a request's PDFs, where their text is read", validator=validators.gt(0)
    )
    pdf_timeout: float = option(
        20.0, help="seconds to read the PDFs of a request", validator=validators.gt(0)
    )
    pdf_max_text_bytes: int = option(
        4 * 1024 * 1024, help="text of a request's PDFs", validator=validators.gt(0)
    )
    pdf_max_memory_bytes: int = option(
        1024 * 1024 * 1024,
        help="memory of a process that reads PDFs; there are two at most",
        validator=validators.ge(256 * 1024 * 1024),
    )
    counts: Counters = section("metrics", Factory(Counters))

    def handle(self, event: Resolved, forward: Send[ChatRequest]) -> Awaitable[None]:
        if event.size < LARGE_BODY:
            pdfs: PdfTexts = {}
            request = self._translated(event, pdfs)
            if not pdfs:
                self._log(request)
                return forward(request)
        return self._off_loop(event, forward)

    async def _off_loop(self, event: Resolved, forward: Send[ChatRequest]) -> None:
        """Translate what is large, or has PDFs, which the first translation finds."""
        pdfs: PdfTexts = {}
        request = await off_loop(self._translated, event, pdfs)
        if pdfs:
            names = event.client, event.http.session
            pdfs |= await pdf_reader().read(pdfs, self._limits(), names)
            request = await off_loop(self._translated, event, pdfs)
        self._log(request)
        await forward(request)

    def _limits(self) -> PdfLimits:
        return PdfLimits(
            self.pdf_max_pages,
            self.pdf_timeout,
            self.pdf_max_text_bytes,
            self.pdf_max_memory_bytes,
        )

    def _translated(self, event: Resolved, pdfs: PdfTexts) -> ChatRequest:
        backend = self.backends[event.target.backend]
        profile = backend.profile_for(event.target)
        line = backend.calibration.line(event.target.model)
        return chat_request(event, profile, self.strict, line, pdfs)

    def _log(self, request: ChatRequest) -> None:
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
