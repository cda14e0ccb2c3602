"""The stage `translate-in`."""

from __future__ import annotations

from attrs import frozen

from pipeline import Send, Stage, option, section
from stages.backends.backend import Backend
from stages.events import ChatRequest, Resolved
from stages.translation.request import chat_request


@frozen
class TranslateIn(Stage[Resolved, ChatRequest]):
    """Translates a Messages request into the Chat Completions of its backend's profile."""

    backends: dict[str, Backend] = section("backends")
    strict: bool = option(False, help="refuse what would be dropped or changed, with a 400")

    async def handle(self, event: Resolved, forward: Send[ChatRequest]) -> None:
        profile = self.backends[event.target.backend].profile_for(event.target)
        await forward(chat_request(event, profile, self.strict))
