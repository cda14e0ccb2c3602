"""Wants for tests of limits."""

from __future__ import annotations

from stages.limits.config import Period
from stages.limits.store import Want


def rate(
    maximum: float, amount: float = 1, account: str = "all", period: Period = "minute"
) -> Want:
    """A want of a rate."""
    return Want(account, f"rate_per_{period}", "rate", period, maximum, amount)


def budget(maximum: float, amount: float, account: str = "all", period: Period = "day") -> Want:
    """A want of a budget."""
    return Want(account, f"cost_per_{period}", "budget", period, maximum, amount)


def places(maximum: float, account: str = "all") -> Want:
    """A want of a place."""
    return Want(account, "concurrent_requests", "concurrency", "", maximum)
