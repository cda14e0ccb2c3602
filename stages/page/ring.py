"""The newest items, within a limit of bytes. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from attrs import define, field

#: Bytes that an item takes besides its data: a tuple, an id, and the head of a bytes object.
OVERHEAD = 200


@define(eq=False)
class Ring:
    """Items with an id, the newest last. The oldest are dropped beyond `max_bytes`.

    An item that is larger than `max_bytes` is not kept.
    """

    max_bytes: int
    used_bytes: int = field(default=0, init=False)
    """At most `max_bytes`."""
    dropped: int = field(default=0, init=False)
    """Number of items that are not kept any more."""
    _items: deque[tuple[str, bytes]] = field(factory=deque, init=False)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, id: str, data: bytes) -> None:
        """Add an item, and drop the oldest ones beyond the limit."""
        self._items.append((id, data))
        self.used_bytes += len(data) + OVERHEAD
        while self.used_bytes > self.max_bytes:
            self.used_bytes -= len(self._items.popleft()[1]) + OVERHEAD
            self.dropped += 1

    def replace(self, change: Callable[[bytes], bytes]) -> None:
        """Replace the data of each item by `change` of it, which must not be longer."""
        self._items = deque((id, change(data)) for id, data in self._items)
        self.used_bytes = sum(len(data) + OVERHEAD for _, data in self._items)

    def newest(self, limit: int, skip: int = 0) -> Iterator[bytes]:
        """Yield at most `limit` items, the newest first."""
        return (data for _, data in islice(reversed(self._items), skip, skip + limit))

    def number_since(self, time: float, time_of: Callable[[bytes], float]) -> int:
        """Return the number of items whose time is not before `time`. The items are in order."""
        earlier = bisect_left(self._items, time, key=lambda item: time_of(item[1]))
        return len(self._items) - earlier

    def find(self, id: str) -> bytes | None:
        """Return the item with this id, or None."""
        return next((data for item, data in reversed(self._items) if item == id), None)
