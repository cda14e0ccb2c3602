"""The ring of recent items never takes more than its bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages.page.ring import OVERHEAD, Ring

SIZES = st.lists(st.integers(0, 3000), max_size=60)


@given(st.integers(0, 5000), SIZES)
def test_it_has_the_newest_items_within_its_bytes(limit: int, sizes: list[int]) -> None:
    ring = Ring(limit)
    added = []
    for number, size in enumerate(sizes):
        added.append(bytes([number]) * size)
        ring.add(f"req_{number}", added[-1])

        kept = list(ring.newest(1000))
        assert kept == added[::-1][: len(kept)]
        assert ring.used_bytes == sum(len(data) + OVERHEAD for data in kept) <= limit
        assert len(ring) + ring.dropped == len(added)


@given(SIZES)
def test_it_drops_no_item_that_has_space(sizes: list[int]) -> None:
    ring = Ring(sum(sizes) + OVERHEAD * len(sizes))
    for number, size in enumerate(sizes):
        ring.add(str(number), bytes(size))

    assert (len(ring), ring.dropped) == (len(sizes), 0)


def test_it_finds_items_by_their_ids() -> None:
    ring = Ring(2 * OVERHEAD + 10)
    for number in range(3):
        ring.add(f"req_{number}", b"%d" % number)

    assert [ring.find(f"req_{number}") for number in range(4)] == [None, b"1", b"2", None]
    assert list(ring.newest(1)) == [b"2"]
    assert list(ring.newest(5, skip=1)) == [b"1"]


def test_a_lower_limit_applies_from_the_next_item_on() -> None:
    ring = Ring(10_000)
    for number in range(10):
        ring.add(str(number), b"")
    ring.max_bytes = 2 * OVERHEAD

    ring.add("10", b"")

    assert len(ring) == 2
