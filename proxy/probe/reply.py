"""What a backend answered to one request, read leniently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen

from stages.chat_completions.errors import error_from_status, error_in
from stages.chat_completions.json_values import as_array, as_string
from stages.messages_api.errors import ApiError
from stages.wire import json_codec
from stages.wire.sse import SseDecoder

#: Statuses that say nothing of the request itself.
_BESIDE_THE_POINT = (401, 402, 403, 408, 429, 502, 503, 504, 524, 529)
REASONING = ("reasoning_content", "reasoning", "reasoning_details")


@frozen
class Reply:
    """One answer. `status` is 0 when none came; `error` says what was wrong with it.

    `chunks` are the JSON documents of a stream, or the one of a whole answer.
    """

    status: int
    error: str = ""
    chunks: tuple[dict[str, Any], ...] = Factory(tuple)

    @property
    def silent(self) -> bool:
        """Whether it tells nothing of what was asked: a rate limit, a timeout."""
        return self.status == 0 or self.status in _BESIDE_THE_POINT

    @property
    def accepted(self) -> bool:
        """Whether the request was taken."""
        return not self.error

    @property
    def json(self) -> dict[str, Any]:
        """The body of an answer that is no stream."""
        return self.chunks[0] if self.chunks else {}

    @property
    def text(self) -> str:
        """What the model said."""
        return "".join(as_string(message.get("content")) for message in self._messages)

    @property
    def calls(self) -> list[str]:
        """The names of the tools it called."""
        calls = [call for m in self._messages for call in as_array(m.get("tool_calls"))]
        functions = [call.get("function") for call in calls if isinstance(call, dict)]
        return [as_string(f.get("name")) for f in functions if isinstance(f, dict)]

    @property
    def reasoning(self) -> str:
        """The field in which reasoning came; empty when none did."""
        said = [name for name in REASONING for m in self._messages if m.get(name)]
        return "reasoning_details" if "reasoning_details" in said else next(iter(said), "")

    @property
    def finish(self) -> str:
        """Why it ended, in the backend's word."""
        return next((f for c in self.choices if (f := as_string(c.get("finish_reason")))), "")

    @property
    def cut(self) -> bool:
        """Whether it ended at the output limit: what would have come next is not known."""
        return self.finish == "length"

    @property
    def stop(self) -> str:
        """The stop sequence it tells it ended at."""
        told = [
            as_string(c.get(name)) for c in self.choices for name in ("stop_reason", "matched_stop")
        ]
        return next(filter(None, told), "")

    @property
    def usage(self) -> dict[str, Any]:
        """Its `usage`, from wherever it stands."""
        found = [chunk["usage"] for chunk in self.chunks if isinstance(chunk.get("usage"), dict)]
        return found[-1] if found else {}

    @property
    def tokens(self) -> int:
        """How many tokens it wrote; where it does not tell, some four characters each."""
        told = self.usage.get("completion_tokens")
        return told if type(told) is int else (len(self.text) + 3) // 4

    @property
    def choices(self) -> list[dict[str, Any]]:
        """The choices of all its chunks; none: it is no chat completion."""
        choices = [each for chunk in self.chunks for each in as_array(chunk.get("choices"))]
        return [choice for choice in choices if isinstance(choice, dict)]

    @property
    def _messages(self) -> list[dict[str, Any]]:
        found = [choice.get("message") or choice.get("delta") for choice in self.choices]
        return [message for message in found if isinstance(message, dict)]


def reply_from(backend: str, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """The reply in an HTTP answer; an error inside a 200 is one too."""
    if status != 200:
        return Reply(status, reported(backend, error_from_status(backend, status, headers, body)))
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    try:
        decoder = SseDecoder()
        pieces = [*decoder.feed(body), *decoder.finish()] if streamed else [body]
        chunks = [json_codec.decode_answer(data) for data in pieces if data.strip() != b"[DONE]"]
    except ValueError:
        return Reply(status, "200, but the answer is not JSON")
    objects = tuple(chunk for chunk in chunks if isinstance(chunk, dict))
    for chunk in chunks:
        if error := error_in(backend, chunk):
            return Reply(error.status, reported(backend, error), objects)
    return Reply(status, "", objects)


def log_safe(text: str) -> str:
    """`text` as it can stand in a comment: on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def reported(backend: str, error: ApiError) -> str:
    """An error's message on one line, without the name of the backend."""
    message = error.message.removesuffix(" ()").removeprefix(f"backend `{backend}` ")
    return log_safe(message.removeprefix("answered "))
