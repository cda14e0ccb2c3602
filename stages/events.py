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

from attrs import Factory, define, field, frozen

from stages.messages_api.request import MessagesRequest

#: The content-encodings in which a body may come besides `identity`; `read_body` unpacks them.
GZIP = ("gzip", "x-gzip")


async def _no_body(limit: int) -> bytes:
    return b""


@frozen
class HttpRequest:
    """A request at the edge. Its body is not read yet, so a stage can refuse it before that.

    `headers` have lower-case names; `query` and `path_params` are decoded. `read_body(limit)`
    gives the whole body, unpacked, to each stage that asks for it, and raises RequestTooLargeError
    as soon as it passes `limit` bytes. What stages add to `remarks` stands in the request's line of
    the log; nothing that a client or a backend has said.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(factory=dict, repr=lambda headers: f"<{len(headers)}>")
    query: Mapping[str, str] = field(factory=dict, repr=False)
    path_params: Mapping[str, str] = Factory(dict)
    request_id: str = "req_0"
    read_body: Callable[[int], Awaitable[bytes]] = field(default=_no_body, repr=False, eq=False)
    remarks: list[str] = field(factory=list, repr=False, eq=False)

    @property
    def session(self) -> str:
        """The conversation it belongs to, as Claude Code names it; empty where it is not told."""
        return self.headers.get("x-claude-code-session-id", "")

    @property
    def betas(self) -> frozenset[str]:
        """The betas that the client asks for; a header that comes twice is joined with a comma."""
        named = self.headers.get("anthropic-beta", "")
        return frozenset(beta.strip() for beta in named.split(",")) if named else frozenset()


@frozen
class Authenticated:
    """A request whose sender may use the proxy. `client` names the key, never shows it."""

    http: HttpRequest
    client: str


@frozen
class Validated:
    """A request of the right form. `size` is that of its body, in bytes."""

    http: HttpRequest
    request: MessagesRequest = field(repr=False)
    client: str = "anonymous"
    size: int = field(default=0, kw_only=True, eq=False)


@frozen
class Target:
    """Where a request goes: an entry of `backends`, and the model's name there.

    `overrides` are keys of the backend's profile that differ for this model. `label` names the
    target among others in the words of the declaration, so there are few; empty, if it is alone.
    """

    backend: str
    model: str
    overrides: Mapping[str, Any] = Factory(dict)
    label: str = field(default="", eq=False)


@define(eq=False)
class Progress:
    """Whether the answer to a request has begun; the same object in all that is made of it.

    Until then a request that fails may be tried again, there or elsewhere, without the client
    noticing; so ChatStart, too, may come again. From then on an error is the end of it. Whoever
    makes the client's answer out of the backend's says `begins` right before the first event of
    it: `translate-out`, or a stage in its place.
    """

    begun: bool = False
    then: Callable[[], None] = lambda: None

    def begins(self) -> None:
        """The first event of the answer is about to be forwarded."""
        self.begun = True
        self.then()


@frozen
class Resolved:
    """A request that knows its backend. `others` may answer in its place, best first.

    `size` is that of the client's body, in bytes.
    """

    http: HttpRequest
    request: MessagesRequest = field(repr=False)
    target: Target
    client: str = "anonymous"
    alternatives: tuple[Target, ...] = ()
    progress: Progress = field(factory=Progress, eq=False, repr=False)
    size: int = field(default=0, kw_only=True, eq=False)


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
    without `model` and `stream`. `notes` name what was dropped or changed on the way, for the
    client; `changes` are the same by the names of policies, which are none of the client's.
    """

    resolved: Resolved
    messages: list[dict[str, Any]] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    notes: tuple[str, ...] = ()
    changes: tuple[tuple[str, str], ...] = ()
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


@frozen
class ChatStart(ChatEvent):
    """The backend has begun to answer. Comes first, and again if the request is tried again."""

    request: ChatRequest


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
