"""The stage `translate-out`."""

from __future__ import annotations

import logging

from attrs import frozen

from pipeline import Send, Stage, StopForwarding
from stages.events import ChatAnswer, ChatChunk, ChatEnd, ChatStart
from stages.translation.answer import AnswerTranslator
from stages.wire.errors import ApiError
from stages.wire.events import StreamEvent

log = logging.getLogger("llm_proxy")


@frozen
class TranslateOut(Stage[ChatAnswer, StreamEvent]):
    """Translates a Chat Completions answer into stream events of the Messages API.

    Behind a stop sequence that is looked for here, it wants no more of the answer.
    """

    def receiver(self, forward: Send[StreamEvent]) -> Send[ChatAnswer]:
        """With a translator for each answer."""
        translator: AnswerTranslator | None = None

        async def receive(event: ChatAnswer) -> None:
            nonlocal translator
            events: list[StreamEvent] = []
            if isinstance(event, ChatStart):
                translator = AnswerTranslator(event.request)
            elif translator is None:
                raise TypeError(f"{type(event).__name__} before ChatStart")
            elif isinstance(event, ChatChunk):
                try:
                    events = translator.chunk(event.data, event.followed)
                except ApiError:  # what came with it is told before it
                    for each in translator.taken():
                        await forward(each)
                    raise
            elif isinstance(event, ChatEnd):
                events = translator.end(event.done, event.lowered)
                _tell_unknown(translator)
            for each in events:
                await forward(each)
            if translator and translator.stopped:
                raise StopForwarding

        return receive


def _tell_unknown(translator: AnswerTranslator) -> None:
    """Log a finish reason that may mean something else than it is taken for."""
    if reason := translator.unknown_finish:
        backend = translator.request.resolved.target.backend
        log.warning("backend `%s` ended with the unknown finish_reason %r", backend, reason[:80])
