"""Who may call a backend next, where it takes only so many calls at a time. Pure.

Calls wait in two lines, the short ones and the long ones. In each, keys take turns; of a key, its
sessions do; of a session, who came first is first. A key or session that comes anew goes behind
those that are there, so before it each of them gets one turn, and no more.

    short ones wait   long ones wait   short in a row   next             then in a row
    ---------------   --------------   --------------   --------------   -------------
    no                no               any              nobody           0
    yes               no               any              a short one      0
    no                yes              any              a long one       0
    yes               yes              below 3          a short one      one more
    yes               yes              3                a long one       0

A slot is free only where nobody waits, also when there are more slots than before. So a long one
waits for at most three short ones for each long one that is before it, and a short one, of each
four turns, for one.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, TypeVar

from attrs import define, field

_SHORT_IN_A_ROW = 3
#: How long a call takes, in seconds, as long as none has ended.
_FIRST_DURATION = 5.0
_WEIGHT_OF_NEWEST = 0.2
_RETRY_AFTER = (1, 60)

T = TypeVar("T")


@define(eq=False)
class RoundRobin(Generic[T]):
    """Items that take turns by the first of their names, among those by the next, and so on."""

    _groups: dict[str, RoundRobin[T]] = field(factory=dict)
    _items: deque[T] = field(factory=deque)

    def __bool__(self) -> bool:
        return bool(self._groups or self._items)

    def put(self, names: tuple[str, ...], item: T) -> None:
        """Add an item. All have as many names."""
        if names:
            self._groups.setdefault(names[0], RoundRobin()).put(names[1:], item)
        else:
            self._items.append(item)

    def take(self) -> T:
        """Take the next one out."""
        if self._items:
            return self._items.popleft()
        name = next(iter(self._groups))
        below = self._groups.pop(name)
        item = below.take()
        if below:
            self._groups[name] = below  # behind the others
        return item

    def remove(self, names: tuple[str, ...], item: T) -> None:
        """Take this one out; the others keep their places."""
        if not names:
            self._items.remove(item)
            return
        below = self._groups[names[0]]
        below.remove(names[1:], item)
        if not below:
            del self._groups[names[0]]


@define(eq=False)
class FairQueue(Generic[T]):
    """The calls that run and wait at one backend. One begins where fewer than `slots` run."""

    slots: int
    started: int = 0
    """How many ever began, and how many seconds they had waited, in all."""
    waited: float = 0.0
    _running: set[T] = field(factory=set)
    _waiting: dict[T, tuple[tuple[str, ...], bool]] = field(factory=dict)
    _short: RoundRobin[T] = field(factory=RoundRobin)
    _long: RoundRobin[T] = field(factory=RoundRobin)
    _short_in_a_row: int = 0
    _mean_duration: float = _FIRST_DURATION

    @property
    def running(self) -> int:
        """How many calls run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    @property
    def free(self) -> bool:
        """Whether a call that comes now need not wait."""
        return self.running < self.slots

    def enter(self, call: T, names: tuple[str, ...], short: bool) -> bool:
        """A new call of `names`, a key and a session; whether it may begin at once."""
        if self.free:
            self._running.add(call)
            return True
        self._waiting[call] = names, short
        self._queue_of(short).put(names, call)
        return False

    def leave(self, call: T) -> list[T]:
        """A call that ran is over, or one that waited gives up; gives those to begin now."""
        if call in self._waiting:
            names, short = self._waiting.pop(call)
            self._queue_of(short).remove(names, call)
        else:
            self._running.remove(call)
        return self._start_due()

    def resize(self, slots: int) -> list[T]:
        """From now on there are so many slots; gives the calls to begin now."""
        self.slots = slots
        return self._start_due()

    def _start_due(self) -> list[T]:
        due = []
        while self._waiting and self.free:
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

    def record_wait(self, waited: float) -> None:
        """Count a call that begins, after so many seconds."""
        self.started += 1
        self.waited += waited

    def record_duration(self, seconds: float) -> None:
        """Learn how long a call took; the newest counts for a fifth."""
        self._mean_duration += _WEIGHT_OF_NEWEST * (seconds - self._mean_duration)

    def retry_after(self) -> int:
        """About how many seconds it takes until all that wait have begun; from 1 to 60."""
        least, most = _RETRY_AFTER
        return min(
            most, max(least, math.ceil(self._mean_duration * (self.waiting + 1) / self.slots))
        )
