"""One request and its result: the record that the log, the metrics and other readers read.

    filled in by    fields
    -------------   --------------------------------------------------------------------------
    the endpoint    id, pipeline, method, path, session, agent, parent_agent, received, trace_id;
                    at the end: status, error, message, full_message, outcome, ended
    authenticate    client, allowed_models
    validate        model, stream
    limit           refused_by, header_lines
    translate-in    degradations
    queue           queued, accepted
    invoke          attempts
    retry/fallback  repeats
    repair-tools    repaired_calls
    translate-out   response_started, first_token, longest_gap, stream_times, usage, stop_reason;
                    adds to degradations
    an Observer     stages

A custom stage that replaces one of these fills in its fields. Times are seconds of
`time.monotonic`. A time is None until its event happens. All events of a request from HttpRequest
to ChatStart, and MessageStart, refer to the same Exchange. Only the event loop's thread writes to
it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from attrs import Factory, asdict, define, field, frozen

from pipeline.event import event
from stages.messages_api.usage import Usage

if TYPE_CHECKING:
    from stages.messages_api.request import MessagesRequest
    from stages.messages_api.stream_events import StreamEvent
    from stages.routing.allowed_models import AllowedModels

Outcome = Literal["", "complete", "error", "client_disconnected", "client_stalled", "aborted"]


#: Functions, and the `overrides` of a target, which may contain secrets.
NOT_IN_JSON = (
    *("_usage", "read_usage", "on_request", "on_response_start", "on_stream_event", "on_attempt"),
    *("on_end", "full_message"),
    *("allowed_models", "call_headers", "header_lines", "overrides"),
)


@event
class Target:
    """Where a request goes: an entry of `backends`, and the model's name there.

    `overrides` are keys of the backend's profile that differ for this model. `label` distinguishes
    the targets of an entry of `models`. It is empty if the entry has only one target.
    """

    backend: str
    model: str
    overrides: Mapping[str, Any] = Factory(dict)
    label: str = field(default="", eq=False)


@frozen
class Degradation:
    """A field of the request, or a member of the response, that was dropped or changed.

    The client reads `name`, which may contain text of its own request. `field` is the name of a
    field policy. Metrics count by `field`, because it has few values.
    """

    name: str
    action: str
    field: str

    def __str__(self) -> str:
        return f"{self.name}:{self.action}"


@define(eq=False)
class Attempt:
    """One call of a backend."""

    target: Target
    sent: float
    """When the call began. The time to open the backend is not part of the call."""
    first_byte: float | None = None
    """When the first part of the response came."""
    ended: float | None = None
    error: str = ""
    """An ErrorKind; empty, if it did not fail."""
    usage: Usage | None = None
    """The tokens of this call, when it has ended; None: it failed before the response started."""


@frozen
class Repeat:
    """A stage sent the request again after an error."""

    stage: Literal["retry", "fallback"]
    target: Target | None
    """The target that failed; None, if all targets of the request failed."""
    error: str
    """An ErrorKind."""


@frozen
class LimitRefusal:
    """A limit that refused the request."""

    limit: str
    """Its option, such as `requests_per_minute`."""
    account: str
    """Its kind and name, such as `key:alice`."""


@define(eq=False)
class StageRun:
    """The time that a stage spent on the request. After `retry` or `fallback` it has several."""

    stage: str
    began: float
    forwarded: float | None = None
    """When it first forwarded the request, or a response of its own.

    Of the last stage that gets the request, such as `invoke`: when the client's response started.
    """
    ended: float | None = None
    """When the stage and all later stages were done."""


@define(eq=False)
class Exchange:
    """One request and its result. The table above lists who fills in which fields."""

    id: str = "req_0"
    pipeline: str = ""
    method: str = ""
    path: str = ""
    session: str = ""
    """The client's conversation, from `x-claude-code-session-id`."""
    agent: str = ""
    """The client's sub-agent, from `x-claude-code-agent-id`."""
    parent_agent: str = ""
    """The agent that started it, from `x-claude-code-parent-agent-id`."""
    trace_id: str = ""
    """In hexadecimal digits; empty without tracing."""
    client: str = ""
    """The name of the client's key, never the key."""
    allowed_models: AllowedModels | None = None
    """The models that the client may ask for; None: all. `resolve` and `list-models` obey it."""
    model: str = ""
    """The model that the client asked for."""
    stream: bool = False
    degradations: tuple[Degradation, ...] = ()
    attempts: list[Attempt] = Factory(list)
    repeats: list[Repeat] = Factory(list)
    repaired_calls: list[str] = Factory(list)
    """One `RepairOutcome` (stages/tool_repair/arguments.py) for each repaired tool call."""
    _usage: Usage | None = None
    stop_reason: str = ""
    status: int = 0
    """The HTTP status of the response; 0 until it is sent."""
    error: str = ""
    """The type of the error that the client got, such as `overloaded_error`."""
    refused_by: LimitRefusal | None = None
    """The limit that caused that error."""
    message: str = ""
    """The message of that error, without text of the client or the backend."""
    full_message: str = ""
    """The message of that error as the client got it. It may quote the prompt: do not log it."""
    outcome: Outcome = ""
    """How the exchange ended; empty until it ends.

    `error`: the client got an error, perhaps as an event within a stream. `client_stalled`: the
    client did not read. `aborted`: the response is not complete, and the client got no error.
    """
    received: float = Factory(time.monotonic)
    queued: float | None = None
    accepted: float | None = None
    """When the queue started the last call."""
    response_started: float | None = None
    first_token: float | None = None
    longest_gap: float = 0.0
    """The longest time between two parts of the response, in seconds."""
    ended: float | None = None
    stages: list[StageRun] = Factory(list)
    """In the order of their begin; empty unless an observer measures the stages."""
    stream_times: list[float] | None = None
    """When each part of the response was forwarded; None: not recorded."""
    on_request: list[Callable[[MessagesRequest], None]] = Factory(list)
    """Functions to call with the request, when it is valid. `validate` calls them."""
    on_stream_event: list[Callable[[StreamEvent], None]] = Factory(list)
    """Functions to call with each stream event, before it is forwarded; also with each `ping`."""
    on_response_start: list[Callable[[], None]] = Factory(list)
    """Functions to call when the response starts. A stage removes the functions that it added."""
    on_attempt: list[Callable[[Attempt], None]] = Factory(list)
    """Functions to call before each call of a backend. They may set `call_headers`."""
    call_headers: dict[str, str] | None = None
    """Headers for the next call of a backend, such as `traceparent`."""
    header_lines: bytes = b""
    """Further headers of the response to the client, also of an error: `name: value`, CRLF, each.

    The server does not check these lines, so they must have no text of a client or a backend.
    """
    on_end: list[Callable[[Exchange], None]] = Factory(list)
    """Functions to call at the end, when all fields are filled in, also after an error.

    They run on the event loop, after the response was sent, so they must be quick.
    """
    read_usage: Callable[[], Usage | None] | None = None
    """Computes the usage while the response is in flight. `translate-out` sets and removes it."""

    @property
    def usage(self) -> Usage | None:
        """The tokens so far, even if the client does not read the response to its end."""
        return self._usage or (self.read_usage() if self.read_usage else None)

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self._usage = usage

    def usage_of(self, attempt: Attempt) -> Usage | None:
        """The tokens of an attempt. Until the last one ends, it has those of the exchange."""
        return attempt.usage or (self.usage if attempt is self.attempts[-1] else None)

    def start_response(self) -> None:
        """Record that the client's response starts.

        `translate-out`, or a stage that replaces it, calls this once, just before it forwards the
        first content of a stream, or a whole response. Before the call, `retry` and `fallback` may
        send a failed request again. After the call, an error ends the request.
        """
        self.response_started = time.monotonic()
        for function in self.on_response_start:
            function()

    @property
    def target(self) -> Target | None:
        """The target of the last call of a backend."""
        return self.attempts[-1].target if self.attempts else None

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON values, and `received` as Unix time in `time`.

        The result has no secret, no part of a prompt and no part of a response.
        """
        fields = asdict(self, filter=lambda field, _: field.name not in NOT_IN_JSON)
        received = time.time() - (time.monotonic() - self.received)
        return {"time": received, **fields, "usage": self.usage and asdict(self.usage)}
