"""Counting the tokens of a prompt with the tokenizer of its backend."""

from __future__ import annotations

from functools import partial

import anyio
from attrs import frozen

from stages.backends.call import BackendCall
from stages.backends.client import ChatCompletionsClient
from stages.backends.errors import error_from_exception
from stages.backends.response import BackendResponse
from stages.events import ChatRequest
from stages.messages_api.errors import InternalError


@frozen
class Tokenizer:
    """An endpoint that counts a prompt. Of its answer, `member` is the number."""

    path: str
    member: str
    at_root: bool = True
    """Whether it stands beside `/v1`, not below."""

    async def count(
        self, completions: ChatCompletionsClient, request: ChatRequest, seconds: float
    ) -> int:
        """The prompt's tokens, in so many seconds at most. Raises ApiError."""
        target = request.resolved.target
        body = {"model": target.model, "messages": request.messages, **request.options}
        ask = partial(completions.post, completions.url(self.path, self.at_root), body)
        size = request.resolved.size
        call = BackendCall(
            target.backend, request.messages, request.options, seconds, body_size=size
        )
        try:
            with anyio.fail_after(seconds):  # for all of it, silent or not
                async with BackendResponse(ask, call, stream=False) as answer:
                    number = (await answer.whole()).get(self.member)
        except TimeoutError as error:
            raise error_from_exception(target.backend, error) from error
        if type(number) is not int:
            raise InternalError(f"backend `{target.backend}` did not say how many tokens it counts")
        return number


#: By a profile's `tokenizer`.
TOKENIZERS = {
    "llamacpp": Tokenizer("/chat/completions/input_tokens", "input_tokens", at_root=False),
    "vllm": Tokenizer("/tokenize", "count"),
    "sglang": Tokenizer("/tokenize", "count"),  # of messages since 2026; before, it refuses them
}
