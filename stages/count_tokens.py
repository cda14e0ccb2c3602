"""The stage `count-tokens`."""

from __future__ import annotations

from attrs import frozen

from pipeline import Send, Stage, section
from stages.backends.backend import Backend
from stages.events import ChatRequest, HttpResponse, json_response
from stages.wire.json_codec import encode


@frozen
class CountTokens(Stage[ChatRequest, HttpResponse]):
    """Count the tokens of a prompt with the backend's tokenizer, or estimate them.

    Estimates are corrected by the usage that the backend reported for earlier prompts.

    The header `x-llm-proxy-token-count` says `exact` or `estimated`.
    """

    backends: dict[str, Backend] = section("backends")

    async def handle(self, event: ChatRequest, forward: Send[HttpResponse]) -> None:
        backend = self.backends[event.resolved.target.backend]
        number = await backend.count_tokens(event)
        how = {"x-llm-proxy-token-count": "estimated" if number is None else "exact"}
        number = event.estimate if number is None else number
        for part in json_response(encode({"input_tokens": number}), how):
            await forward(part)
