"""The rotation of waiting calls: client keys take turns, and short calls go before long ones. Pure.

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

At most three short calls overtake a long call for itself and for each long call that is before it.
At most one call in four is long while short calls wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field

_SHORT_IN_A_ROW = 3

T = TypeVar("T")


@define(eq=False)
class RoundRobin(Generic[T]):
    """Items that take turns by their first name, within a name by the second, and so on."""

    _groups: dict[str, RoundRobin[T]] = field(factory=dict)
    _items: deque[T] = field(factory=deque)

    def __bool__(self) -> bool:
        return bool(self._groups or self._items)

    @property
    def first(self) -> T:
        """The item that `take` returns next."""
        return self._items[0] if self._items else next(iter(self._groups.values())).first

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

    def take_first(self, matches: Callable[[T], bool]) -> T | None:
        """Remove and return the next item that matches; None if no item does.

        It is a turn of those of its names whose next item it is. Other names keep their places.
        """
        item = next(filter(matches, self._items), None)
        if item is not None:
            self._items.remove(item)
            return item
        for name, group in self._groups.items():
            first = group.first
            item = group.take_first(matches)
            if item is None:
                continue
            if item is first:
                del self._groups[name]
                if group:
                    self._groups[name] = group  # after the others
            return item
        return None

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
class Rotation(Generic[T]):
    """Waiting calls, in the order of the table above."""

    _short: RoundRobin[T] = field(factory=RoundRobin)
    _long: RoundRobin[T] = field(factory=RoundRobin)
    _short_in_a_row: int = 0

    def __bool__(self) -> bool:
        return bool(self._short or self._long)

    @property
    def _queues(self) -> tuple[RoundRobin[T], RoundRobin[T]]:
        """The next queue, then the other one."""
        if self._short and not (self._long and self._short_in_a_row == _SHORT_IN_A_ROW):
            return self._short, self._long
        return self._long, self._short

    @property
    def first(self) -> T:
        """The call that `take` returns next."""
        return self._queues[0].first

    def put(self, call: T, names: tuple[str, ...], short: bool) -> None:
        """Add a call. `names`: its key and session."""
        self._queue_of(short).put(names, call)

    def remove(self, call: T, names: tuple[str, ...], short: bool) -> None:
        """Remove this call; the others keep their places."""
        self._queue_of(short).remove(names, call)
        if not self:
            self._short_in_a_row = 0

    def take(self) -> T:
        """Remove and return the next call."""
        queue = self._queues[0]
        call = queue.take()
        if queue is self._short and self._long:
            self._short_in_a_row += 1
        else:
            self._short_in_a_row = 0
        return call

    def take_first(self, matches: Callable[[T], bool]) -> T:
        """Remove and return the next call that matches. At least one call does."""
        for queue in self._queues:
            if (call := queue.take_first(matches)) is not None:
                return call
        raise LookupError("no call matches")

    def _queue_of(self, short: bool) -> RoundRobin[T]:
        return self._short if short else self._long
