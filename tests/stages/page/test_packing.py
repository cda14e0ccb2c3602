"""An exchange becomes bytes and comes back."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from attrs import asdict, evolve, fields, has
from hypothesis import given
from hypothesis import strategies as st

from stages import exchange as exchange_module
from stages.exchange import NOT_IN_JSON, Attempt, Degradation, Exchange, LimitRefusal, Target
from stages.page import packing
from stages.page.packing import MAX_TIMES, pack, thinned, unpack
from tests.cases import for_each
from tests.stages.page.exchanges import ended

TIMES = st.lists(st.floats(0, 1e6), min_size=1, max_size=300).map(sorted)


def comparable(exchange: Exchange) -> dict[str, Any]:
    return {**asdict(exchange), "usage": exchange.usage, "on_end": None}


@for_each(
    "exchange",
    [
        ended(),
        Exchange(),
        ended(usage=None, stream_times=None),
        ended(error="x", message="ü\u2028"),
        Exchange(refused_by=LimitRefusal("requests_per_minute", "key:alice")),
    ],
    ids=["stream", "new", "without a stream", "error", "refused by a limit"],
)
def test_all_fields_come_back(exchange: Exchange) -> None:
    assert comparable(unpack(pack(exchange))) == comparable(exchange)


def test_each_class_in_an_exchange_can_be_packed() -> None:
    types = [str(each.type) for each in fields(Exchange) if each.name not in NOT_IN_JSON]
    words = set(re.findall(r"\w+", " ".join(types)))
    classes = {value for name, value in vars(exchange_module).items() if name in words}
    parts = {value for value in classes if isinstance(value, type) and has(value)}

    assert {LimitRefusal, Attempt} <= parts <= packing._PARTS.keys()


def test_secrets_of_overrides_are_left_out() -> None:
    exchange = ended()
    target = evolve(exchange.attempts[0].target, overrides={"api_key": "s3cret"})
    exchange.attempts[0].target = target

    data = pack(exchange)

    assert b"s3cret" not in data
    assert unpack(data).attempts[0].target == Target("gpu", "coder")


def test_a_small_exchange_is_small() -> None:
    assert len(pack(ended())) < 1000


def test_a_long_stream_has_a_bounded_number_of_times() -> None:
    exchange = ended(stream_times=[float(n) for n in range(100_000)])

    times = unpack(pack(exchange)).stream_times

    assert times is not None
    assert MAX_TIMES / 2 < len(times) <= MAX_TIMES
    assert (times[0], times[-1]) == (0, 99_999)


@given(TIMES, st.integers(16, 100))
def test_thinned_times_have_the_ends_and_the_longest_gaps(times: list[float], limit: int) -> None:
    fewer = thinned(times, limit)

    assert len(fewer) <= max(limit, 1)
    assert fewer == sorted(fewer)
    assert (fewer[0], fewer[-1]) == (times[0], times[-1])
    longest = max((after - before for before, after in pairwise(times)), default=0.0)
    assert not longest or longest in [after - before for before, after in pairwise(fewer)]


def test_long_names_and_many_of_them_are_cut() -> None:
    many = tuple(Degradation("n" * 10_000, "dropped", "top_k") for _ in range(5000))
    exchange = ended(model="m" * 10_000_000, degradations=many)

    data = pack(exchange)

    assert len(data) < 30_000
    kept = unpack(data)
    assert kept.model == "m" * 200 + "\u2026"
    assert len(kept.degradations) == 100
    assert len(kept.stages) == len(exchange.stages)
