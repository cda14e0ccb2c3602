"""Count the tokens of a prompt with the tokenizer of its backend."""

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
    """An endpoint that counts a prompt. `member` is the member of its response with the count."""

    path: str
    member: str
    at_root: bool = True
    """Whether `path` is next to `/v1`, not below it."""

    async def count(
        self, completions: ChatCompletionsClient, request: ChatRequest, seconds: float
    ) -> int:
        """Count the prompt's tokens, in at most `seconds`. Raises ApiError."""
        target = request.resolved.target
        body = {"model": target.model, "messages": request.messages, **request.options}
        send = partial(completions.post, completions.url(self.path, self.at_root), body)
        size = request.resolved.size
        call = BackendCall(
            target.backend, request.messages, request.options, seconds, body_size=size
        )
        try:
            with anyio.fail_after(seconds):  # for the whole call
                async with BackendResponse(send, call, stream=False) as response:
                    number = (await response.whole()).get(self.member)
        except TimeoutError as error:
            raise error_from_exception(target.backend, error) from error
        if type(number) is not int:
            raise InternalError(f"backend `{target.backend}` returned no token count")
        return number


#: By a profile's `tokenizer`.
TOKENIZERS = {
    "llamacpp": Tokenizer("/chat/completions/input_tokens", "input_tokens", at_root=False),
    "vllm": Tokenizer("/tokenize", "count"),
    "sglang": Tokenizer(
        "/tokenize", "count"
    ),  # counts messages since 2026; earlier versions refuse them
}
