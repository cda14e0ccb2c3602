"""One request and its result: the record that the log, the metrics and other readers read.

    filled in by    fields
    -------------   --------------------------------------------------------------------------
    the endpoint    id, pipeline, method, path, session, agent, parent_agent, received;
                    at the end: status, error, outcome, ended
    authenticate    client
    validate        model, stream
    translate-in    degradations
    queue           queued, accepted
    invoke          attempts
    retry/fallback  retries
    repair-tools    repaired_calls
    translate-out   response_started, first_token, usage, stop_reason; adds to degradations

A stage that answers in place of others fills in their fields. All times are seconds of
`time.monotonic`; None: it has not happened. The same object is in each event of a request, down to
`ChatStart`, and in `MessageStart`. Only the event loop's thread writes to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

from attrs import Factory, asdict, define, field, frozen

from stages.messages_api.usage import Usage

Outcome = Literal["", "complete", "error", "client_disconnected", "client_stalled", "aborted"]


# Functions, and `overrides` of a target, in which secrets may be.
_NOT_IN_JSON = ("_usage", "read_usage", "on_response_start", "on_end", "overrides")


@frozen
class Target:
    """Where a request goes: an entry of `backends`, and the model's name there.

    `overrides` are keys of the backend's profile that differ for this model. `label` names the
    target among the targets of its entry in `models`; empty, if it is the only one.
    """

    backend: str
    model: str
    overrides: Mapping[str, Any] = Factory(dict)
    label: str = field(default="", eq=False)


@frozen
class Degradation:
    """A field of the request, or a member of the response, that was dropped or changed.

    `name` is what the client sees, and may be the client's own word. `field` is a name of the
    policies, so there are few: metrics count by it.
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
    first_byte: float | None = None
    """When the first part of the response came."""
    ended: float | None = None
    error: str = ""
    """An ErrorKind; empty, if it did not fail."""


@frozen
class Repeat:
    """A stage sent the request again after an error."""

    stage: Literal["retry", "fallback"]
    target: Target | None
    """The target that failed; None, if all targets of the request did."""
    error: str
    """An ErrorKind."""


@define(eq=False)
class Exchange:
    """One request and its result. See the table above for who fills in what."""

    id: str = "req_0"
    pipeline: str = ""
    method: str = ""
    path: str = ""
    session: str = ""
    """The client's conversation, from `x-claude-code-session-id`."""
    agent: str = ""
    parent_agent: str = ""
    """The client's sub-agent, and the agent that started it, from the client's headers."""
    client: str = ""
    """The name of the client's key, never the key."""
    model: str = ""
    """The model that the client asked for."""
    stream: bool = False
    degradations: tuple[Degradation, ...] = ()
    attempts: list[Attempt] = Factory(list)
    repeats: list[Repeat] = Factory(list)
    repaired_calls: list[str] = Factory(list)
    """One `Outcome` (stages/tool_repair/arguments.py) for each repaired tool call."""
    _usage: Usage | None = None
    stop_reason: str = ""
    status: int = 0
    """The HTTP status that was sent; 0: none."""
    error: str = ""
    """The type of the error that the client got, such as `overloaded_error`."""
    message: str = ""
    """The message of that error, without what the client or the backend wrote."""
    outcome: Outcome = ""
    """How the exchange ended; empty, while it runs.

    `error`: the client got an error, perhaps as an event within a stream. `client_stalled`: the
    client did not read. `aborted`: the response is not complete, and the client got no error.
    """
    received: float = Factory(time.monotonic)
    queued: float | None = None
    accepted: float | None = None
    """When the queue let the last call begin."""
    response_started: float | None = None
    first_token: float | None = None
    ended: float | None = None
    on_response_start: list[Callable[[], None]] = Factory(list)
    """Functions to call when the response starts. A stage removes what it added."""
    on_end: list[Callable[[Exchange], None]] = Factory(list)
    """Functions to call when all fields are filled in, however the exchange ended.

    They run on the event loop, after the response was sent, so they must be quick.
    """
    read_usage: Callable[[], Usage | None] | None = None
    """Computes the usage of a response that is not over; `translate-out` sets and removes it."""

    @property
    def usage(self) -> Usage | None:
        """The tokens of the response so far, also if the client did not read to the end."""
        return self._usage or (self.read_usage() if self.read_usage else None)

    @usage.setter
    def usage(self, usage: Usage | None) -> None:
        self._usage = usage

    def start_response(self) -> None:
        """The first event of the response is about to be forwarded.

        Until then a request that fails may be sent again, there or elsewhere, without the client
        noticing. From then on an error ends the request. A stage that makes the client's response
        calls it once, right before the first event: `translate-out`, or a stage in its place.
        """
        self.response_started = time.monotonic()
        for function in self.on_response_start:
            function()

    @property
    def target(self) -> Target | None:
        """The target of the last call of a backend."""
        return self.attempts[-1].target if self.attempts else None

    def as_json(self) -> dict[str, Any]:
        """All fields as JSON values; `time` is `received` in seconds of Unix time.

        It has no secret, no part of a prompt and no part of a response.
        """
        fields = asdict(self, filter=lambda field, _: field.name not in _NOT_IN_JSON)
        received = time.time() - (time.monotonic() - self.received)
        return {"time": received, **fields, "usage": self.usage and asdict(self.usage)}
