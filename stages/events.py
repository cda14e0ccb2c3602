"""The events that travel between stages, in the order of the usual chain.

    HttpRequest -> Authenticated -> Validated -> Resolved -> ChatRequest
        -> ChatEvent (ChatWaiting…, ChatStart, ChatChunk…, ChatEnd) -> StreamEvent…
        -> HttpResponse…

The events from Authenticated to ChatRequest contain the HttpRequest, directly or in an earlier
event. The stream events of the Messages API are in `stages.messages_api.stream_events`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from attrs import Factory, field

from pipeline.event import event
from stages.exchange import Degradation, Exchange, Target
from stages.messages_api.request import MessagesRequest
from stages.wire.encoded_parts import NOT_ENCODED, EncodedParts

#: The content-encodings that `read_body` decodes.
GZIP_ENCODINGS = ("gzip", "x-gzip")


async def _no_body(limit: int) -> bytes:
    return b""


@event
class HttpRequest:
    """A request at the endpoint. A stage can refuse it before the body is read.

    `headers` have lower-case names; `query` and `path_params` are decoded. `read_body(limit)`
    returns the whole body, decompressed. Several stages may call it. It raises RequestTooLargeError
    as soon as the body is longer than `limit` bytes.
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
        """The client's `anthropic-beta` names. The endpoint joins repeated headers by a comma."""
        named = self.headers.get("anthropic-beta", "")
        return frozenset(beta.strip() for beta in named.split(",")) if named else frozenset()


@event
class Authenticated:
    """A request whose client may use the proxy."""

    http: HttpRequest

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.http.exchange


@event
class Validated:
    """A valid request. `size` is the length of its body, in bytes.

    `new_bytes` is the length of the body without its cached parts, in bytes. A part is a message,
    the system prompt or the list of tools (messages_api/part_cache.py). If the body was not split
    into parts, `new_bytes` is equal to `size`. If `new_bytes` is LARGE_BODY or more, stages process
    the request in a thread (off_loop.py). `is_cached` is whether the messages of this request, the
    new ones too, are now kept as cached parts. A later request of the conversation then gets the
    same Python objects.
    """

    http: HttpRequest
    request: MessagesRequest = field(repr=False)
    size: int = field(default=0, kw_only=True, eq=False)
    new_bytes: int = field(default=0, kw_only=True, eq=False)
    is_cached: bool = field(default=False, kw_only=True, eq=False)

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.http.exchange


@event
class Resolved:
    """A request with its target. `alternatives` are the other possible targets, best first.

    `size` is the length of the client's body, in bytes; `new_bytes` and `is_cached`: see Validated.
    """

    http: HttpRequest
    request: MessagesRequest = field(repr=False)
    target: Target
    alternatives: tuple[Target, ...] = ()
    size: int = field(default=0, kw_only=True, eq=False)
    new_bytes: int = field(default=0, kw_only=True, eq=False)
    is_cached: bool = field(default=False, kw_only=True, eq=False)

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.http.exchange


@event
class OpaqueMembers:
    """Which members of a response the backend needs back, unchanged, in the next request.

    The client receives these members and sends them back: see translation/envelope.py.
    """

    of_calls: frozenset[str] = frozenset()
    """Members of tool calls."""
    of_messages: frozenset[str] = frozenset()
    """Members of messages."""
    part_types: frozenset[str] = frozenset()
    """Types of content parts that the backend needs back whole, if `content` is a list of parts."""
    id_limit: int = 4096
    """The maximum length of a `tool_use` id, in characters.

    The proxy may encode opaque members into an id.
    """


@event
class ChatRequest:
    """A request in the backend's protocol, Chat Completions.

    `messages` and `options` (tools, sampling, limits) are the JSON to send, without `model` and
    `stream`. `degradations` are those of the translation. Other requests share the objects in
    `messages`: replace a message, do not change it.
    """

    resolved: Resolved
    messages: list[dict[str, Any]] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    degradations: tuple[Degradation, ...] = ()
    encoded: EncodedParts = field(default=NOT_ENCODED, repr=False, eq=False)
    """The JSON of the first messages and of the tools, if an earlier step or request made it.

    If a stage replaces one of these messages, all messages are encoded again when the request is
    sent. If a stage replaces the list of tools, only the tools are encoded again.
    """
    tool_use_members: Mapping[str, Mapping[str, str]] = Factory(dict)
    """Maps the backend's name of a tool to the members of `tool_use` that identify the tool.

    The members are `name`, and for a function of a toolset also `toolset_name`. A toolset is one
    tool of the client that becomes several functions of the backend: see
    translation/client_tool_functions.py. A tool whose name is the same on both sides is not in the
    map.
    """
    single_tool_call: bool = False
    """Whether the client accepts only one tool call in a response."""
    think_tags: tuple[tuple[str, str], ...] = ()
    """Pairs of tags. The backend may write reasoning between them, in the text; see ThinkTags."""
    scanned_stop_sequences: tuple[str, ...] = field(default=(), repr=False)
    """Stop sequences that `translate-out` looks for in the text."""
    always_streams: bool = False
    """Whether the backend responds only with a stream."""
    echoed_prefill: str = field(default="", repr=False)
    """Prefill that the backend repeats at the start of its response. `translate-out` removes it."""
    opaque: OpaqueMembers = field(default=OpaqueMembers(), repr=False, eq=False)
    context_window: int | None = None
    """The maximum of prompt and response together, in tokens; None: not configured."""
    raw_estimate: int = 1
    """The estimated tokens of the prompt, by its size alone."""
    estimate: int = 1
    """`raw_estimate`, corrected by the usage that the backend reported for earlier prompts.

    The client gets it in `message_start`. It also replaces a count that the backend does not
    report. The queue decides by it which calls are short. It may be wrong, so no stage refuses or
    routes this request by it.
    """
    retranslate: Callable[[Any], ChatRequest] | None = field(default=None, repr=False, eq=False)
    """Translates the client's request again, for the Profile in its argument."""

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.resolved.http.exchange

    @property
    def stream(self) -> bool:
        """Whether to request a stream from the backend.

        True if the client wants a stream, if the backend always sends one, or if `translate-out`
        looks for stop sequences: it can end the response at a stop sequence only with a stream.
        """
        return (
            self.resolved.request.stream or self.always_streams or bool(self.scanned_stop_sequences)
        )

    @property
    def cache_warmup(self) -> bool:
        """Whether the client only wants to fill the backend's prompt cache."""
        return self.resolved.request.max_tokens == 0


@event
class ChatEvent:
    """A part of a backend's response, or ChatWaiting."""


@event
class ChatWaiting(ChatEvent):
    """The request waits: for a concurrency limit, for a slot, or for the backend's response.

    A stage may forward it any number of times before `ChatStart`. An error or another attempt may
    follow.
    """

    request: ChatRequest

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.request.resolved.http.exchange


@event
class ChatStart(ChatEvent):
    """The backend's response starts. Each attempt that gets a response has its own ChatStart."""

    request: ChatRequest

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.request.resolved.http.exchange


@event
class ChatChunk(ChatEvent):
    """One chunk of the response, or the whole completion of a response without a stream.

    `data` is the backend's JSON. `invoke` does not change it; `repair-tools` may.
    `more_buffered`: the next ChatChunk or ChatEnd follows without a wait.
    """

    data: dict[str, Any] = field(repr=False)
    more_buffered: bool = False


LoweredBy = Literal["window", "model"] | None


@event
class ChatEnd(ChatEvent):
    """The backend's response has ended.

    `done`: whether the backend marked the end, by `[DONE]` or by a whole JSON document. It is False
    if a stream ended without `[DONE]`.

    `limit_lowered`: why a second call had a lower limit, after the backend refused `max_tokens`.
    `window`: the prompt and `max_tokens` together did not fit into the context
    window. `model`: the model's own limit is lower. None: the backend did not refuse it.
    """

    done: bool = True
    limit_lowered: LoweredBy = None


@event
class HttpResponse:
    """A part of the HTTP response to the client."""


@event
class ResponseStart(HttpResponse):
    """Status and headers. It comes once, first."""

    status: int = 200
    headers: Mapping[str, str] = Factory(dict)


@event
class ResponseBody(HttpResponse):
    """Bytes of the body. In the last part `more` is False."""

    data: bytes = field(repr=False)
    more: bool = False


def json_response(data: bytes, headers: Mapping[str, str] | None = None) -> list[HttpResponse]:
    """The parts of a JSON response."""
    length = {"content-type": "application/json", "content-length": str(len(data))}
    return [ResponseStart(200, {**length, **(headers or {})}), ResponseBody(data)]
