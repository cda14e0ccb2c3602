"""The stage `translate-out`."""

from __future__ import annotations

from typing import cast

from attrs import frozen

from pipeline import Send, Stage, StopForwarding
from stages.events import ChatAnswer, ChatChunk, ChatEnd, ChatStart
from stages.translation.answer import AnswerTranslator
from stages.wire.errors import ApiError
from stages.wire.events import StreamEvent


@frozen
class TranslateOut(Stage[ChatAnswer, StreamEvent]):
    """Translates a Chat Completions answer into stream events of the Messages API.

    Behind a stop sequence that is looked for here, it wants no more of the answer.
    """

    def receiver(self, forward: Send[StreamEvent]) -> Send[ChatAnswer]:
        """With a translator for each answer."""
        translator: AnswerTranslator | None = None
        send = forward

        async def begin(event: StreamEvent) -> None:
            nonlocal send
            cast("AnswerTranslator", translator).request.resolved.progress.begins()
            send = forward
            await forward(event)

        async def receive(event: ChatAnswer) -> None:
            nonlocal translator, send
            if isinstance(event, ChatStart):
                translator, send = AnswerTranslator(event.request), begin
                return
            if translator is None:
                raise TypeError(f"{type(event).__name__} before ChatStart")
            events: list[StreamEvent] = []
            try:
                if isinstance(event, ChatChunk):
                    events = translator.chunk(event.data, event.followed)
                elif isinstance(event, ChatEnd):
                    events = translator.end(event.done, event.lowered)
            except ApiError:
                await _tell(translator, send)
                raise
            for each in events:
                await send(each)
            if translator.stopped:
                raise StopForwarding

        return receive


async def _tell(translator: AnswerTranslator, send: Send[StreamEvent]) -> None:
    """Forward what came together with an error, in front of it."""
    for each in translator.taken():
        await send(each)
