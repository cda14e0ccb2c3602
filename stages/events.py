"""What travels between stages, in the order of the usual chain.

    HttpRequest -> Authenticated -> Validated -> Resolved -> ChatRequest
        -> ChatEvent (ChatWaiting…, ChatStart, ChatChunk…, ChatEnd) -> StreamEvent…
        -> HttpResponse…

Each event keeps the one it came from, so a later stage can see all that is known. The stream
events of the Messages API are in `stages.messages_api.stream_events`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from attrs import Factory, field, frozen

from stages.exchange import Degradation, Exchange, Target
from stages.messages_api.request import MessagesRequest

#: The content-encodings in which a body may come besides `identity`; `read_body` unpacks them.
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
    """What of an answer its backend needs again, by the profile; see translation/envelope.py."""

    of_calls: frozenset[str] = frozenset()
    of_messages: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()
    """Types of items of the content, where that is a list."""
    id_limit: int = 4096
    """Characters of an id, at most, for the client."""


@frozen
class ChatRequest:
    """A request in the backend's protocol, Chat Completions.

    `messages` and `options` (tools, sampling, limits) are JSON as the backend gets them,
    without `model` and `stream`. `degradations` were made on the way.
    """

    resolved: Resolved
    messages: list[dict[str, Any]] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    degradations: tuple[Degradation, ...] = ()
    client_tool_names: Mapping[str, Mapping[str, str]] = Factory(dict)
    """Tool names the backend knows, to the members of `tool_use` that name it to the client.

    Only where they differ.
    """
    single_tool_call: bool = False
    """Whether the client takes no second tool call in one answer."""
    think_tags: tuple[tuple[str, str], ...] = ()
    """Tags between which the backend may leave reasoning in the text; see ThinkTags."""
    scanned_stop_sequences: tuple[str, ...] = field(default=(), repr=False)
    """Stop sequences to look for in the text."""
    always_streams: bool = False
    """Whether the backend answers only as a stream."""
    echoed_prefill: str = field(default="", repr=False)
    """What the answer begins with that the client has sent already."""
    opaque: OpaqueMembers = field(default=OpaqueMembers(), repr=False, eq=False)
    context_window: int | None = None
    """Tokens of prompt and answer together, where it is declared."""
    raw_estimate: int = 1
    """About how many tokens the prompt has, by its size alone."""
    estimate: int = 1
    """The same, corrected by what the backend has reported for earlier prompts.

    It is shown, and it orders a queue. It never limits, refuses or routes: it may be wrong.
    """
    retranslate: Callable[[Any], ChatRequest] | None = field(default=None, repr=False, eq=False)
    """Translates the same request by another Profile; None if it was not translated here."""

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
        """Whether the backend is to stream: as to the client, or to be left at a stop sequence."""
        return (
            self.resolved.request.stream or self.always_streams or bool(self.scanned_stop_sequences)
        )

    @property
    def cache_warmup(self) -> bool:
        """Whether the client wants no answer, only the backend's prompt cache to be warm."""
        return self.resolved.request.max_tokens == 0


@frozen
class ChatEvent:
    """A part of a backend's answer."""


@frozen
class ChatWaiting(ChatEvent):
    """The request waits: for its turn, or for the backend to begin.

    Comes before `ChatStart`, or not at all, or several times, as where it is tried again.
    Nothing of an answer is forwarded with it, so an error may still follow, or another attempt.
    """

    request: ChatRequest

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.request.resolved.http.exchange


@frozen
class ChatStart(ChatEvent):
    """The backend has begun to answer. Comes first, and again if the request is tried again."""

    request: ChatRequest

    @property
    def exchange(self) -> Exchange:
        """The record of this request."""
        return self.request.resolved.http.exchange


@frozen
class ChatChunk(ChatEvent):
    """One chunk of the answer as it came, or a whole completion in place of chunks.

    `followed`: another one arrived together with it, and comes next without waiting.
    """

    data: dict[str, Any] = field(repr=False)
    more_buffered: bool = False


LoweredBy = Literal["window", "model"] | None


@frozen
class ChatEnd(ChatEvent):
    """The backend's stream is over. `done` is whether it said so with `[DONE]`.

    `lowered`: it answers a second call, with a lower output limit than the client's: what the
    window has left after the prompt, or the most that the model can put out.
    """

    done: bool = True
    limit_lowered: LoweredBy = None


@frozen
class HttpResponse:
    """A part of the answer to the client."""


@frozen
class ResponseStart(HttpResponse):
    """Status and headers. Comes once, first."""

    status: int = 200
    headers: Mapping[str, str] = Factory(dict)


@frozen
class ResponseBody(HttpResponse):
    """Bytes of the body; the last have `more` False."""

    data: bytes = field(repr=False)
    more: bool = False


def json_response(data: bytes, headers: Mapping[str, str] | None = None) -> list[HttpResponse]:
    """A whole answer of JSON."""
    length = {"content-type": "application/json", "content-length": str(len(data))}
    return [ResponseStart(200, {**length, **(headers or {})}), ResponseBody(data)]
