"""The stage `translate-in`."""

from __future__ import annotations

from collections.abc import Awaitable

from attrs import frozen, validators

from pipeline import Send, Stage, option, section
from stages.backends.backend import Backend
from stages.events import ChatRequest, Resolved
from stages.off_loop import LARGE_BODY, off_loop
from stages.pdf.reader import PdfLimits, pdf_reader
from stages.translation.field_policies import PdfTexts
from stages.translation.request import chat_request


@frozen
class TranslateIn(Stage[Resolved, ChatRequest]):
    """Translate a Messages request into Chat Completions, by the profile of its target."""

    backends: dict[str, Backend] = section("backends")
    strict: bool = option(
        False, help="refuse requests of which something would be dropped or changed, with a 400"
    )
    pdf_max_pages: int = option(
        600,
        help="most pages in the PDFs of a request, if their text is read",
        validator=validators.gt(0),
    )
    pdf_timeout: float = option(
        20.0, help="seconds that reading the PDFs of a request may take", validator=validators.gt(0)
    )
    pdf_max_text_bytes: int = option(
        4 * 1024 * 1024,
        help="most bytes of text in the PDFs of a request",
        validator=validators.gt(0),
    )
    pdf_max_memory_bytes: int = option(
        1024 * 1024 * 1024,
        help="memory limit of a process that reads PDFs, in bytes; at most two such processes run",
        validator=validators.ge(256 * 1024 * 1024),
    )

    def handle(self, event: Resolved, forward: Send[ChatRequest]) -> Awaitable[None]:
        if event.new_bytes < LARGE_BODY:
            pdfs: PdfTexts = {}
            request = self._translated(event, pdfs)
            if not pdfs:
                event.exchange.degradations = request.degradations
                return forward(request)
        return self._off_loop(event, forward)

    async def _off_loop(self, event: Resolved, forward: Send[ChatRequest]) -> None:
        """Translate a request that is large, or that has PDFs: the first translation finds them."""
        pdfs: PdfTexts = {}
        request = await off_loop(self._translated, event, pdfs)
        if pdfs:
            names = event.exchange.client, event.exchange.session
            pdfs |= await pdf_reader().read(pdfs, self._limits(), names)
            request = await off_loop(self._translated, event, pdfs)
        event.exchange.degradations = request.degradations
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
