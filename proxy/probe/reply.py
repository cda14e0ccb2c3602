"""A backend's reply to one request, read leniently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import Factory, frozen

from stages.chat_completions.errors import error_from_status, error_in_document
from stages.chat_completions.json_values import as_array, as_string
from stages.messages_api.errors import ApiError
from stages.wire import json_codec
from stages.wire.sse import SseDecoder

#: Statuses that do not depend on the request's content.
_UNRELATED_STATUSES = (401, 402, 403, 408, 429, 502, 503, 504, 524, 529)
REASONING = ("reasoning_content", "reasoning", "reasoning_details")


@frozen
class Reply:
    """One reply. `status` is 0 if none arrived; `error` is why the request counts as refused.

    `chunks` are the JSON documents of a stream, or the single document of a whole response.
    """

    status: int
    error: str = ""
    chunks: tuple[dict[str, Any], ...] = Factory(tuple)

    @property
    def silent(self) -> bool:
        """Whether it does not answer the question: a rate limit, a timeout."""
        return self.status == 0 or self.status in _UNRELATED_STATUSES

    @property
    def accepted(self) -> bool:
        """Whether the backend accepted the request."""
        return not self.error

    @property
    def json(self) -> dict[str, Any]:
        """The body of a response that is not a stream."""
        return self.chunks[0] if self.chunks else {}

    @property
    def text(self) -> str:
        """The model's text."""
        return "".join(as_string(message.get("content")) for message in self._messages)

    @property
    def calls(self) -> list[str]:
        """The names of the tools that the model called."""
        calls = [call for m in self._messages for call in as_array(m.get("tool_calls"))]
        functions = [call.get("function") for call in calls if isinstance(call, dict)]
        return [as_string(f.get("name")) for f in functions if isinstance(f, dict)]

    @property
    def reasoning(self) -> str:
        """The field with reasoning; empty if there is none."""
        names = [name for name in REASONING for m in self._messages if m.get(name)]
        return "reasoning_details" if "reasoning_details" in names else next(iter(names), "")

    @property
    def finish(self) -> str:
        """The backend's `finish_reason`."""
        return next((f for c in self.choices if (f := as_string(c.get("finish_reason")))), "")

    @property
    def cut(self) -> bool:
        """Whether it ended at the output limit: its continuation is unknown."""
        return self.finish == "length"

    @property
    def stop(self) -> str:
        """The stop sequence that the backend reports."""
        reported = [
            as_string(c.get(name)) for c in self.choices for name in ("stop_reason", "matched_stop")
        ]
        return next(filter(None, reported), "")

    @property
    def usage(self) -> dict[str, Any]:
        """Its last `usage`."""
        usages = [chunk["usage"] for chunk in self.chunks if isinstance(chunk.get("usage"), dict)]
        return usages[-1] if usages else {}

    @property
    def tokens(self) -> int:
        """Output tokens, reported or estimated at four characters each."""
        count = self.usage.get("completion_tokens")
        return count if type(count) is int else (len(self.text) + 3) // 4

    @property
    def choices(self) -> list[dict[str, Any]]:
        """The choices of all chunks; without any it is not a chat completion."""
        choices = [c for chunk in self.chunks for c in as_array(chunk.get("choices"))]
        return [choice for choice in choices if isinstance(choice, dict)]

    @property
    def _messages(self) -> list[dict[str, Any]]:
        messages = [choice.get("message") or choice.get("delta") for choice in self.choices]
        return [message for message in messages if isinstance(message, dict)]


def reply_from(backend: str, status: int, headers: Mapping[str, str], body: bytes) -> Reply:
    """Read the reply from an HTTP response; an error inside a 200 is an error too."""
    if status != 200:
        return Reply(status, error_text(backend, error_from_status(backend, status, headers, body)))
    streamed = headers.get("content-type", "").startswith("text/event-stream")
    try:
        decoder = SseDecoder()
        documents = [*decoder.feed(body), *decoder.finish()] if streamed else [body]
        chunks = [
            json_codec.decode_lenient(data) for data in documents if data.strip() != b"[DONE]"
        ]
    except ValueError:
        return Reply(status, "200, but the response is not JSON")
    objects = tuple(chunk for chunk in chunks if isinstance(chunk, dict))
    for chunk in chunks:
        if error := error_in_document(backend, chunk):
            return Reply(error.status, error_text(backend, error), objects)
    return Reply(status, "", objects)


def on_one_line(text: str) -> str:
    """Put `text` on one line without control characters, for a comment."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def error_text(backend: str, error: ApiError) -> str:
    """Return an error's message on one line, without the name of the backend."""
    message = error.message.removesuffix(" ()").removeprefix(f"backend `{backend}` ")
    return on_one_line(message.removeprefix("answered "))
