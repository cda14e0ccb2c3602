"""What the page gets from the other workers: their parts, as bytes; see stages/page/parts.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import msgspec
from attrs import Factory, evolve, frozen

#: The part of a worker that does not have the exchange.
NOT_FOUND = b"null"
#: Errors of a part that was not made by this version of the code.
_UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError)

P = TypeVar("P")


@frozen
class Responses:
    """The parts of the other workers. `responded` counts this worker, too."""

    workers: int = 1
    responded: int = 1
    missing: tuple[int, ...] = ()
    """The process ids of workers that were asked, without a readable response in time."""
    parts: Mapping[int, bytes] = Factory(dict)
    """By process id, without NOT_FOUND."""

    def decoded(self, decode: Callable[[bytes], P]) -> tuple[Responses, list[P]]:
        """Decode the parts. A worker whose part cannot be decoded is missing.

        It may have been started after an update of the proxy, and have another version.
        """
        read, unreadable = [], []
        for pid, data in self.parts.items():
            try:
                read.append(decode(data))
            except _UNREADABLE:
                unreadable.append(pid)
        missing = tuple(sorted([*self.missing, *unreadable]))
        return evolve(self, responded=self.responded - len(unreadable), missing=missing), read


Ask = Callable[[str | None, float | None], Awaitable[Responses]]
"""Asks the other workers for the exchange with this id, or with None for the list before a time."""


async def ask_nobody(exchange: str | None, before: float | None) -> Responses:
    """See Ask: there is one worker."""
    return Responses()
