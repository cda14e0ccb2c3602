"""The events that travel between stages, in the order of the usual chain.

    HttpRequest -> Authenticated -> Validated -> Resolved -> ChatRequest
        -> ChatEvent (ChatWaiting…, ChatStart, ChatChunk…, ChatEnd) -> StreamEvent…
        -> HttpResponse…

Each event of the request contains the event that it was made from. The stream events of the
Messages API are in `stages.messages_api.stream_events`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from attrs import Factory, field, frozen

from stages.exchange import Degradation, Exchange, Target
from stages.messages_api.request import MessagesRequest

#: The content-encodings of a body besides `identity`; `read_body` decodes them.
GZIP = ("gzip", "x-gzip")


async def _no_body(limit: int) -> bytes:
    return b""


@frozen
class HttpRequest:
    """A request at the endpoint. Its body is not read yet, so a stage can refuse it before that.

    `headers` have lower-case names; `query` and `path_params` are decoded. `read_body(limit)`
    gives the whole body, unpacked, to each stage that asks for it, and raises RequestTooLargeError
    as soon as it passes `limit` bytes.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(factory=dict, repr=lambda headers: f"<{len(headers)}>")
    query: Mapping[str, str] = field(factory=dict, repr=False)
    path_params: Mapping[str, str] = Factory(dict)
    exchange: Exchange = field(factory=Exchange, repr=False, eq=False)
    read_body: Callable[[int], Awaitable[bytes]] = field(default=_no_body, repr=False, eq=False)

    @property
    def betas(self) -> frozenset[str]:
        """The betas that the client asks for; a header that comes twice is joined with a comma."""
        named = self.headers.get("anthropic-beta", "")
        return frozenset(beta.strip() for beta in named.split(",")) if named else frozenset()


@frozen
class Authenticated:
    """A request whose client may use the proxy."""

    http: HttpRequest

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.http.exchange


@frozen
class Validated:
    """A valid request. `size` is that of its body, in bytes."""

    http: HttpRequest
    request: MessagesRequest = field(repr=False)
    size: int = field(default=0, kw_only=True, eq=False)

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.http.exchange


@frozen
class Resolved:
    """A request with its target. `alternatives` may answer in its place, best first.

    `size` is that of the client's body, in bytes.
    """

    http: HttpRequest
    request: MessagesRequest = field(repr=False)
    target: Target
    alternatives: tuple[Target, ...] = ()
    size: int = field(default=0, kw_only=True, eq=False)

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.http.exchange


@frozen
class OpaqueMembers:
    """The members of a response that its backend needs again; see translation/envelope.py."""

    of_calls: frozenset[str] = frozenset()
    of_messages: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()
    """Types of content items, where the content is a list."""
    id_limit: int = 4096
    """At most this many characters in an id for the client."""


@frozen
class ChatRequest:
    """A request in the backend's protocol, Chat Completions.

    `messages` and `options` (tools, sampling, limits) are the backend's JSON, without `model` and
    `stream`. `degradations` were made by the translation.
    """

    resolved: Resolved
    messages: list[dict[str, Any]] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    degradations: tuple[Degradation, ...] = ()
    client_tool_names: Mapping[str, Mapping[str, str]] = Factory(dict)
    """The backend's tool name -> the members of `tool_use` with the client's, if they differ."""
    single_tool_call: bool = False
    """Whether the client accepts only one tool call in a response."""
    think_tags: tuple[tuple[str, str], ...] = ()
    """Tags between which the backend may write reasoning in the text; see ThinkTags."""
    scanned_stop_sequences: tuple[str, ...] = field(default=(), repr=False)
    """Stop sequences that `translate-out` looks for in the text."""
    always_streams: bool = False
    """Whether the backend responds only with a stream."""
    echoed_prefill: str = field(default="", repr=False)
    """Prefill that the backend repeats at the start of its response; it is removed."""
    opaque: OpaqueMembers = field(default=OpaqueMembers(), repr=False, eq=False)
    context_window: int | None = None
    """Tokens of prompt and response together; None: not configured."""
    raw_estimate: int = 1
    """The estimated tokens of the prompt, by its size alone."""
    estimate: int = 1
    """The same, corrected by the usage that the backend reported for earlier prompts.

    It is reported, and it orders the queue. It may be wrong, so it never limits, refuses or routes.
    """
    retranslate: Callable[[Any], ChatRequest] | None = field(default=None, repr=False, eq=False)
    """Translates the same request by another Profile; None: `translate-in` did not make it."""

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.resolved.http.exchange

    @property
    def notes(self) -> tuple[str, ...]:
        """The degradations as the client reads them."""
        return tuple(map(str, self.degradations))

    @property
    def stream(self) -> bool:
        """Whether the backend streams: for the client, or to stop at a stop sequence."""
        return (
            self.resolved.request.stream or self.always_streams or bool(self.scanned_stop_sequences)
        )

    @property
    def cache_warmup(self) -> bool:
        """Whether the client only wants to fill the backend's prompt cache."""
        return self.resolved.request.max_tokens == 0


@frozen
class ChatEvent:
    """A part of a backend's response."""


@frozen
class ChatWaiting(ChatEvent):
    """The request waits, for a slot or for the backend's response.

    It comes before `ChatStart`, any number of times. An error or another attempt may follow it.
    """

    request: ChatRequest

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.request.resolved.http.exchange


@frozen
class ChatStart(ChatEvent):
    """The backend's response starts. It comes again if the request is sent again."""

    request: ChatRequest

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.request.resolved.http.exchange


@frozen
class ChatChunk(ChatEvent):
    """One chunk of the response, unchanged, or a whole completion in place of chunks.

    `more_buffered`: the next chunk arrived together with this one, and follows without waiting.
    """

    data: dict[str, Any] = field(repr=False)
    more_buffered: bool = False


LoweredBy = Literal["window", "model"] | None


@frozen
class ChatEnd(ChatEvent):
    """The backend's response is over. `done`: the backend sent `[DONE]`.

    `limit_lowered`: the call was made with a lower output limit than the client's, because of the
    window that the prompt left, or of the model's own limit.
    """

    done: bool = True
    limit_lowered: LoweredBy = None


@frozen
class HttpResponse:
    """A part of the HTTP response to the client."""


@frozen
class ResponseStart(HttpResponse):
    """Status and headers. It comes once, first."""

    status: int = 200
    headers: Mapping[str, str] = Factory(dict)


@frozen
class ResponseBody(HttpResponse):
    """Bytes of the body. In the last part `more` is False."""

    data: bytes = field(repr=False)
    more: bool = False


def json_response(data: bytes, headers: Mapping[str, str] | None = None) -> list[HttpResponse]:
    """The parts of a JSON response."""
    length = {"content-type": "application/json", "content-length": str(len(data))}
    return [ResponseStart(200, {**length, **(headers or {})}), ResponseBody(data)]
