"""What requests ask for in tests of limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from stages.limits.config import Period
from stages.limits.store import Admitted, Refused, Want


class AnyLedger(Protocol):
    """A Ledger, or scripts in its place."""

    def admit(
        self,
        now: float,
        hold: str,
        wants: Sequence[Want],
        amounts: Sequence[float],
        queue: bool = False,
    ) -> Admitted | Refused: ...
    def settle(self, now: float, hold: str, used: Sequence[float]) -> None: ...
    def renew(self, now: float, hold: str) -> None: ...
    def leave(self, hold: str) -> None: ...
    def take_ready(self) -> list[str]: ...
    @property
    def next_end(self) -> float: ...


@frozen
class Ask:
    """An amount of one limit."""

    want: Want
    amount: float = 1

    @property
    def account(self) -> str:
        return self.want.account


def rate(maximum: float, amount: float = 1, account: str = "all", period: Period = "minute") -> Ask:
    """An amount of a rate."""
    return Ask(Want(account, f"rate_per_{period}", "rate", period, maximum), amount)


def budget(maximum: float, amount: float, account: str = "all", period: Period = "day") -> Ask:
    """An amount of a budget."""
    return Ask(Want(account, f"cost_per_{period}", "budget", period, maximum), amount)


def places(maximum: float, account: str = "all") -> Ask:
    """A place."""
    return Ask(Want(account, "concurrent_requests", "concurrency", "", maximum))


def admit(
    ledger: AnyLedger, now: float, hold: str, *asks: Ask, queue: bool = False
) -> Admitted | Refused:
    """Ask a ledger for these."""
    return ledger.admit(now, hold, [ask.want for ask in asks], [ask.amount for ask in asks], queue)
