"""Circuit breakers: which targets are left alone for a while, because they fail.

Pure: time is an argument, in seconds of any clock that goes forward.

    state      failed               begun    succeeded       asked whether it admits
    ---------  -------------------  -------  --------------  ----------------------------
    closed     the N-th within the  nothing  failures are    yes
               window, with none             forgotten
               that succeeded
               between: open
    open       nothing (it was      nothing  nothing         no; after the cool-down it is
               asked before)                                 half-open
    half-open  open, from now on    closed   closed          yes to one, the probe; no to
                                                             others until it has ended

An answer has `begun` with its first event and `succeeded` when it is whole: a probe need not be
waited for, which may take minutes, and a backend that breaks off each answer is one that fails.
A probe that is `left` (the client is gone, or nothing was learnt) makes room for another one.
Only where there is another target does a stage ask: to leave the only one alone helps nobody.
"""

from __future__ import annotations

from typing import Literal, get_args

from attrs import define, field, validators

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

    def of(self, label: str) -> Breaker:
        """The breaker of the target with that label (a name of the declaration, so few)."""
        found = self._breakers.get(label)
        if found is None:
            found = self._breakers[label] = Breaker(self)
        return found

    def states(self, now: float) -> dict[str, State]:
        """The state of each target that was used so far, by its label."""
        return {label: breaker.state(now) for label, breaker in self._breakers.items()}


@define(eq=False)
class Breaker:
    """One target's. See the table above."""

    limits: Breakers
    _failed_at: list[float] = field(factory=list, init=False)
    _opened_at: float | None = field(default=None, init=False)
    _probed: bool = field(default=False, init=False)

    def state(self, now: float) -> State:
        """As in the table."""
        if self._opened_at is None:
            return "closed"
        return "open" if now < self._opened_at + self.limits.cooldown else "half-open"

    def admits(self, now: float) -> bool:
        """Whether the target may be asked. A yes is followed by the request's end, of any kind."""
        state = self.state(now)
        if state == "half-open" and not self._probed:
            self._probed = True
            return True
        return state == "closed"

    def begun(self, now: float) -> None:
        """The target has begun to answer."""
        if self.state(now) == "half-open":
            self.succeeded(now)

    def succeeded(self, now: float) -> None:
        """It has answered to the end."""
        if self.state(now) != "open":
            self._failed_at.clear()
            self._opened_at = None
            self._probed = False

    def failed(self, now: float) -> None:
        """It has not answered, or not to the end."""
        state = self.state(now)
        if state == "open":
            return
        since = now - self.limits.window
        self._failed_at = [*(time for time in self._failed_at if time > since), now]
        if state == "half-open" or len(self._failed_at) >= self.limits.failures:
            self._opened_at = now
            self._failed_at.clear()
            self._probed = False

    def left(self) -> None:
        """The request has ended, and said nothing of the target."""
        self._probed = False
