"""The bodies of the bench have the sizes and the new parts that their docstrings say."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from typing import Any

from tests.bench.bodies import grown


def messages(body: bytes) -> list[Any]:
    return json.loads(body)["messages"]  # type: ignore[no-any-return]


def test_a_grown_conversation_keeps_its_size() -> None:
    sizes = [len(body) for body in islice(grown(150_000), 200)]
    assert abs(sum(sizes) / len(sizes) - 150_000) < 0.03 * 150_000
    assert max(sizes) - min(sizes) < 25_000


def test_a_grown_conversation_has_one_new_turn_each_time() -> None:
    bodies = [messages(body) for body in islice(grown(20_000), 60)]
    sent = set(map(str, bodies[0]))
    for before, after in pairwise(bodies):
        *old, call, result = after
        assert old == before or old == bodies[0]
        assert sent.isdisjoint([str(call), str(result)])
        sent |= {str(call), str(result)}
