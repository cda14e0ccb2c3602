"""Decide which waiting call a backend with limited slots gets next. Pure.

Short and long calls wait in separate queues. In each queue client keys take turns; within a key,
its sessions take turns; within a session, the first call is first. A new key or session goes to the
end, so each of the others gets exactly one turn before it.

    short waiting   long waiting   short in a row   next call    short in a row then
    -------------   ------------   --------------   ----------   -------------------
    no              no             any              none         0
    yes             no             any              short        0
    no              yes            any              long         0
    yes             yes            below 3          short        one more
    yes             yes            3                long         0

Slots are never free while calls wait, also after an increase of slots. At most three short calls
overtake a long call for itself and for each long call that is before it. At most one call in four
is long while short calls wait.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, TypeVar

from attrs import define, field

_SHORT_IN_A_ROW = 3
#: Seconds that a call is assumed to take until the first one has ended.
_FIRST_DURATION = 5.0
_WEIGHT_OF_NEWEST = 0.2
_RETRY_AFTER = (1, 60)

T = TypeVar("T")


@define(eq=False)
class RoundRobin(Generic[T]):
    """Items that take turns by their first name, within a name by the second, and so on."""

    _groups: dict[str, RoundRobin[T]] = field(factory=dict)
    _items: deque[T] = field(factory=deque)

    def __bool__(self) -> bool:
        return bool(self._groups or self._items)

    def put(self, names: tuple[str, ...], item: T) -> None:
        """Add an item. All items have the same number of names."""
        if names:
            self._groups.setdefault(names[0], RoundRobin()).put(names[1:], item)
        else:
            self._items.append(item)

    def take(self) -> T:
        """Remove and return the next item."""
        if self._items:
            return self._items.popleft()
        name = next(iter(self._groups))
        group = self._groups.pop(name)
        item = group.take()
        if group:
            self._groups[name] = group  # after the others
        return item

    def remove(self, names: tuple[str, ...], item: T) -> None:
        """Remove this item; the others keep their places."""
        if not names:
            self._items.remove(item)
            return
        group = self._groups[names[0]]
        group.remove(names[1:], item)
        if not group:
            del self._groups[names[0]]


@define(eq=False)
class FairQueue(Generic[T]):
    """The running and waiting calls of one backend. At most `slots` run."""

    slots: int
    _running: set[T] = field(factory=set)
    _waiting: dict[T, tuple[tuple[str, ...], bool]] = field(factory=dict)
    _short: RoundRobin[T] = field(factory=RoundRobin)
    _long: RoundRobin[T] = field(factory=RoundRobin)
    _short_in_a_row: int = 0
    _mean_duration: float = _FIRST_DURATION

    def __contains__(self, call: T) -> bool:
        return call in self._running or call in self._waiting

    @property
    def running(self) -> int:
        """Number of running calls."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Number of waiting calls."""
        return len(self._waiting)

    @property
    def has_free_slot(self) -> bool:
        """Whether a new call may start at once."""
        return self.running < self.slots

    def enter(self, call: T, names: tuple[str, ...], short: bool) -> bool:
        """Add a call. `names`: its key and session. Return whether it may start at once."""
        if self.has_free_slot:
            self._running.add(call)
            return True
        self._waiting[call] = names, short
        self._queue_of(short).put(names, call)
        return False

    def resume(self, call: T) -> None:
        """Add a call that runs already, also if no slot is free."""
        self._running.add(call)

    def leave(self, call: T) -> list[T]:
        """Remove a running or waiting call. Return the calls that may start now."""
        if call in self._waiting:
            names, short = self._waiting.pop(call)
            self._queue_of(short).remove(names, call)
        else:
            self._running.remove(call)
        return self._start_due()

    def resize(self, slots: int) -> list[T]:
        """Change the number of slots. Return the calls that may start now."""
        self.slots = slots
        return self._start_due()

    def _start_due(self) -> list[T]:
        due = []
        while self._waiting and self.has_free_slot:
            call = self._next()
            del self._waiting[call]
            due.append(call)
            self._running.add(call)
        if not self._waiting:
            self._short_in_a_row = 0
        return due

    def _next(self) -> T:
        if self._short and not (self._long and self._short_in_a_row == _SHORT_IN_A_ROW):
            self._short_in_a_row = self._short_in_a_row + 1 if self._long else 0
            return self._short.take()
        self._short_in_a_row = 0
        return self._long.take()

    def _queue_of(self, short: bool) -> RoundRobin[T]:
        return self._short if short else self._long

    def record_duration(self, seconds: float) -> None:
        """Update the mean duration; the newest call counts for a fifth."""
        self._mean_duration += _WEIGHT_OF_NEWEST * (seconds - self._mean_duration)

    def retry_after(self) -> int:
        """Estimate the seconds until all waiting calls have started; from 1 to 60."""
        least, most = _RETRY_AFTER
        return min(
            most, max(least, math.ceil(self._mean_duration * (self.waiting + 1) / self.slots))
        )
