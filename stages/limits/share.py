"""A part of the limits of an account, which one process took from the store for its requests.

    event                          credit of each limit   in the store
    ----------------------------   --------------------   ------------------------------------------
    the process opens the share    size                   the size is taken
    a request starts               - its estimate
    a request ends                 + estimate - used
    the share is over, and its                            the size is replaced by what the requests
    last request ends                                     used

A share is over after its `ends`, or when a request does not fit. The process then opens another
one. No request can take from a share that is over. So a process can use at most one size at a later
time than the store counted it, and a limit is exceeded by at most the number of processes times the
size. A share whose process dies remains taken: it leaks out of the limit as if it had been used.

Pure: time is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import Factory, define, field

from stages.limits.store import Level, Want


@define(eq=False)
class Share:
    """All sequences are in the order of `wants`, which are the rates of one account.

    `levels` are those of the store after it gave `sizes`. `ends` is the time after which the share
    is over. `hold` is its id in the store.
    """

    hold: str
    wants: Sequence[Want]
    sizes: Sequence[float]
    ends: float
    _levels: Sequence[Level]
    in_flight: int = 0
    used: list[float] = field(init=False)
    """What requests used that have ended."""
    _credit: list[float] = field(init=False, default=Factory(lambda self: [*self.sizes], True))

    @used.default
    def _nothing(self) -> list[float]:
        return [0.0] * len(self.sizes)

    def take(self, now: float, amounts: Sequence[float]) -> bool:
        """Take the estimates of a request, or nothing if they do not fit."""
        credit = [has - n for has, n in zip(self._credit, amounts, strict=True)]
        if now >= self.ends or min(credit) < 0:
            return False
        self._credit = credit
        self.in_flight += 1
        return True

    def end(self, amounts: Sequence[float], used: Sequence[float]) -> None:
        """Replace the estimates of a request by what it used."""
        for n, (amount, real) in enumerate(zip(amounts, used, strict=True)):
            self._credit[n] += amount - real
            self.used[n] += real
        self.in_flight -= 1

    def levels(self) -> list[Level]:
        """The levels for this process: what remains in the store, and its credit."""
        pairs = zip(self._levels, self._credit, strict=True)
        return [level._replace(remaining=level.remaining + has) for level, has in pairs]
