"""Circuit breakers: a target that fails gets no requests for a while.

Pure: time is an argument, in seconds of any clock that does not go back.

    state      failed                 response_started  succeeded     allows
    ---------  ---------------------  ----------------  ------------  ------------------------
    closed     the Nth within the     nothing           failures are  yes
               window, without a                        forgotten
               success in between:
               open
    open       nothing                nothing           nothing       no; half-open after the
                                                                      cool-down
    half-open  the probe: open again  the probe:        the probe:    yes if there is no probe
                                      closed            closed        in flight

The first attempt at a half-open target is its probe. A probe closes the breaker when the client's
response starts: a complete stream may take minutes. A response has `succeeded` only when it is
complete: a backend that breaks off each response is failing. A probe that finishes without a result
(the client disconnected, for instance) allows another probe.

While the breaker is not closed, only the probe counts. Other attempts began before it opened, or
because every target was open. An attempt that began before it opened does not count later either:
after a target has recovered, old calls to it may still time out.

`allows` is advice. A request goes to a target that is not allowed if no other target is left.

Several processes may share openings. Each has its own breakers, and sends their changes to the
others through `on_change`; `apply` has the changes of the others:

    change      sent when               effect in the others
    ---------   ---------------------   ----------------------------------------------------
    opened      a breaker opens         open, for the same cool-down
    probing     its probe begins        no probe until `opened`, `closed` or `released`, or for a
                                        cool-down: the process may have died
    closed      its probe succeeds      closed
    released    its probe ends without  another probe is allowed
                a result
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Literal, get_args

from attrs import define, field, fields, validators

from pipeline import option

State = Literal["closed", "open", "half-open"]
STATES: tuple[State, ...] = get_args(State)
Change = Literal["opened", "probing", "closed", "released"]


def _nothing(label: str, change: Change) -> None: ...


@define(eq=False)
class Breakers:
    """The section `circuit_breaker`, and the breaker of each target."""

    failures: int = option(
        3, help="failures in a row that open the breaker", validator=validators.ge(1)
    )
    window: float = option(
        60.0, help="seconds in which these failures happen", validator=validators.gt(0)
    )
    cooldown: float = option(
        30.0, help="seconds until an open breaker allows a probe", validator=validators.gt(0)
    )
    on_change: Callable[[str, Change], None] = field(default=_nothing, init=False, repr=False)
    """Gets the label of a target, and the change of its breaker in this process."""
    _breakers: dict[str, Breaker] = field(factory=dict, init=False, repr=False)

    def get(self, label: str) -> Breaker:
        """The breaker of the target with that label. Labels are in the config, so there are few."""
        breaker = self._breakers.get(label)
        if breaker is None:
            breaker = self._breakers[label] = Breaker(label, self)
        return breaker

    def apply(self, label: str, change: Change, now: float) -> None:
        """Apply a change that happened in another process at the time `now`."""
        self.get(label).apply(change, now)

    def release_probes(self) -> None:
        """Forget the probes of other processes, which cannot be reached."""
        for breaker in self._breakers.values():
            breaker.apply("released", 0)

    def carry_over(self, others: Breakers, labels: Collection[str]) -> None:
        """Keep the breakers of `others` with these labels, if the limits are the same.

        Another thread may use `others` at the same time.
        """
        limits = [attribute.name for attribute in fields(Breakers) if attribute.init]
        if all(getattr(self, name) == getattr(others, name) for name in limits):
            by_label = others._breakers.copy()
            self._breakers |= {label: by_label[label] for label in labels if label in by_label}

    def states(self, now: float) -> dict[str, State]:
        """The state of each target that has been used, by its label."""
        return {label: breaker.state(now) for label, breaker in self._breakers.items()}


@define(eq=False)
class Breaker:
    """The breaker of one target. See the table above."""

    label: str
    limits: Breakers
    _failed_at: list[float] = field(factory=list, init=False)
    _opened_at: float | None = field(default=None, init=False)
    _openings: int = field(default=0, init=False)
    _probe: TrackedAttempt | None = field(default=None, init=False)
    _probed_elsewhere_at: float = field(default=-math.inf, init=False)

    def state(self, now: float) -> State:
        """The state at the time `now`."""
        if self._opened_at is None:
            return "closed"
        return "open" if now < self._opened_at + self.limits.cooldown else "half-open"

    def allows(self, now: float) -> bool:
        """Whether the target may get a request."""
        state = self.state(now)
        return state == "closed" or (state == "half-open" and not self._is_probed(now))

    def attempt(self, now: float) -> TrackedAttempt:
        """Record a request to the target, whether the breaker allows it or not."""
        attempt = TrackedAttempt(self, self._openings)
        if self.state(now) == "half-open" and not self._is_probed(now):
            self._probe = attempt
            self._publish("probing")
        return attempt

    def apply(self, change: Change, now: float) -> None:
        """Apply a change of another process. See the second table above."""
        self._probed_elsewhere_at = now if change == "probing" else -math.inf
        if change == "opened":
            self._open(now)
        elif change == "closed":
            self._close()

    def _is_probed(self, now: float) -> bool:
        return self._probe is not None or now < self._probed_elsewhere_at + self.limits.cooldown

    def _publish(self, change: Change) -> None:
        self.limits.on_change(self.label, change)

    def _counts(self, attempt: TrackedAttempt) -> bool:
        if self._opened_at is None:
            return attempt._openings == self._openings
        return self._probe is attempt

    def _close(self) -> None:
        self._failed_at.clear()
        self._opened_at = self._probe = None

    def _fail(self, now: float) -> None:
        since = now - self.limits.window
        self._failed_at = [*(time for time in self._failed_at if time > since), now]
        if self._probe or len(self._failed_at) >= self.limits.failures:
            self._open(now)
            self._publish("opened")

    def _open(self, now: float) -> None:
        self._opened_at, self._probe = now, None
        self._openings += 1


@define(eq=False)
class TrackedAttempt:
    """One request to a target. Its owner reports the result, and at the end calls `finished`."""

    _breaker: Breaker
    _openings: int
    """How often the breaker had opened before this attempt."""

    def response_started(self) -> None:
        """Report that the client's response started."""
        if self._breaker._probe is self:
            self._breaker._close()
            self._breaker._publish("closed")

    def succeeded(self) -> None:
        """Report a complete response."""
        breaker = self._breaker
        if breaker._counts(self):
            was_open = breaker._probe is self
            breaker._close()
            if was_open:
                breaker._publish("closed")

    def failed(self, now: float) -> None:
        """Report an error, or a response that broke off."""
        if self._breaker._counts(self):
            self._breaker._fail(now)

    def finished(self) -> None:
        """Report that the request has ended, with or without a result."""
        if self._breaker._probe is self:
            self._breaker._probe = None
            self._breaker._publish("released")
