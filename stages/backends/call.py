"""One call of a backend: its input, and the state of its response."""

from __future__ import annotations

from typing import Any

import aiohttp
from attrs import define, field

from stages.events import ChatRequest
from stages.wire.encoded_parts import NOT_ENCODED, EncodedParts

#: Exceptions of a call whose response does not arrive, or only in part.
CLIENT_EXCEPTIONS = (
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    UnicodeError,  # from an invalid host name, before the lookup
)


@define
class BackendCall:
    """One call of a backend, as passed through LangChain to the client and the response.

    `payload`, `sent_at`, `completed` and `read_to_end` are outputs. LangChain passes keyword
    arguments through to the client, but nothing back except messages, so results are written into
    the call.
    """

    backend: str
    messages: list[dict[str, Any]] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    idle_timeout: float
    """Seconds between two reads of the response."""
    first_byte_timeout: float | None = None
    """Seconds until the first byte of the body. Default: `idle_timeout`."""
    encoded: EncodedParts = field(default=NOT_ENCODED, repr=False)
    """See ChatRequest."""
    buffered: bool = False
    """Whether a stream is buffered here, because the client wants a whole response."""
    body_size: int = 0
    """Bytes of the client's request body that are new; see Validated."""
    headers: dict[str, str] | None = None
    """Headers of this call, next to those of the session."""
    payload: dict[str, Any] = field(factory=dict, repr=False)
    """The JSON to send. Set by ProxyChat."""
    sent_at: float = 0.0
    """When the request was sent last: time of the event loop. Set by ChatCompletionsClient."""
    completed: bool = False
    """Whether the backend marked its response as complete. Set by BackendResponse."""
    read_to_end: bool = False
    """Whether the stream was read to its end. Set by ProxyChat."""

    @classmethod
    def of(
        cls, request: ChatRequest, idle_timeout: float, first_byte_timeout: float | None
    ) -> BackendCall:
        """The first call for a request."""
        resolved = request.resolved
        return cls(
            resolved.target.backend,
            request.messages,
            request.options,
            idle_timeout,
            first_byte_timeout,
            encoded=request.encoded,
            buffered=not resolved.request.stream,
            body_size=resolved.new_bytes,
            headers=request.exchange.call_headers,
        )
