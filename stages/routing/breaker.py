"""Circuit breakers: which targets are left alone for a while, because they fail.

Pure: time is an argument, in seconds of any clock that goes forward.

    state      failed               begun    succeeded       asked whether it admits
    ---------  -------------------  -------  --------------  ----------------------------
    closed     the N-th within the  nothing  failures are    yes
               window, with none             forgotten
               that succeeded
               between: open
    open       nothing              nothing  nothing         no; after the cool-down it is
                                                             half-open
    half-open  of the probe: open,  closed   closed          yes until there is a probe; no
               from now on          (probe)  (probe)         until that has ended

An answer has `begun` with its first event and `succeeded` when it is whole: a probe need not be
waited for, which may take minutes, and a backend that breaks off each answer is one that fails.
The first attempt at a half-open target is its probe. One that is `left` (the client is gone, or
nothing was learnt) makes room for another one. What other attempts come to, says nothing while the
target is not closed: they began before it opened, or because all were left alone. The former say
nothing later either: when a target is well again, old calls to it may still run into timeouts.
Only where there is another target does a stage ask: to leave the only one alone helps nobody,
nor the last one, when the others have failed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, get_args

from attrs import define, field, fields, validators

from pipeline import option

State = Literal["closed", "open", "half-open"]
STATES: tuple[State, ...] = get_args(State)


@define(eq=False)
class Breakers:
    """The section `circuit_breaker`, and the breaker of each target."""

    failures: int = option(
        3, help="so many in a row leave a target alone", validator=validators.ge(1)
    )
    window: float = option(60.0, help="seconds they lie within", validator=validators.gt(0))
    cooldown: float = option(30.0, help="seconds it is left alone", validator=validators.gt(0))
    _breakers: dict[str, Breaker] = field(factory=dict, init=False, repr=False)

    def get(self, label: str) -> Breaker:
        """The breaker of the target with that label (a name of the declaration, so few)."""
        found = self._breakers.get(label)
        if found is None:
            found = self._breakers[label] = Breaker(self)
        return found

    def carry_over(self, others: Breakers, labels: Collection[str]) -> None:
        """Go on with the breakers that `others` have, of these labels, if the limits are the same.

        `others` may be in use meanwhile, in another thread.
        """
        limits = [each.name for each in fields(Breakers) if each.init]
        if all(getattr(self, name) == getattr(others, name) for name in limits):
            known = others._breakers.copy()
            self._breakers |= {label: known[label] for label in labels if label in known}

    def states(self, now: float) -> dict[str, State]:
        """The state of each target that was used so far, by its label."""
        return {label: breaker.state(now) for label, breaker in self._breakers.items()}


@define(eq=False)
class Breaker:
    """One target's. See the table above."""

    limits: Breakers
    _failed_at: list[float] = field(factory=list, init=False)
    _opened_at: float | None = field(default=None, init=False)
    _openings: int = field(default=0, init=False)
    _probe: Attempt | None = field(default=None, init=False)

    def state(self, now: float) -> State:
        """As in the table."""
        if self._opened_at is None:
            return "closed"
        return "open" if now < self._opened_at + self.limits.cooldown else "half-open"

    def allows(self, now: float) -> bool:
        """Whether the target may be asked."""
        state = self.state(now)
        return state == "closed" or (state == "half-open" and self._probe is None)

    def attempt(self, now: float) -> Attempt:
        """The target is asked now, whether that is admitted or not."""
        made = Attempt(self, self._openings)
        if self.state(now) == "half-open" and self._probe is None:
            self._probe = made
        return made

    def _counts(self, attempt: Attempt) -> bool:
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
            self._opened_at, self._probe = now, None
            self._openings += 1


@define(eq=False)
class Attempt:
    """One request at a target, which tells what came of it, and in the end that it has `left`."""

    _breaker: Breaker
    _openings: int
    """How often the breaker had opened when this began."""

    def response_started(self) -> None:
        """The target has begun to answer."""
        if self._breaker._probe is self:
            self._breaker._close()

    def succeeded(self) -> None:
        """It has answered to the end."""
        if self._breaker._counts(self):
            self._breaker._close()

    def failed(self, now: float) -> None:
        """It has not answered, or not to the end."""
        if self._breaker._counts(self):
            self._breaker._fail(now)

    def finished(self) -> None:
        """The request has ended, however."""
        if self._breaker._probe is self:
            self._breaker._probe = None
