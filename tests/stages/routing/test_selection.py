"""Rules by the kind of a request, and shares of several targets."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from attrs import evolve

from stages.backends.config import TargetGroup, WeightedTarget
from stages.events import Validated
from stages.routing.selection import When, ordered
from stages.routing.traits import input_tokens
from tests.cases import for_each
from tests.support import http, request, validated

IMAGE = {"type": "image", "source": {"type": "url", "url": "https://x.invalid/i.png"}}
TOOL = {"name": "look", "input_schema": {"type": "object"}}
SEEN = [{"role": "user", "content": [IMAGE]}]
LONG = [{"role": "user", "content": "x" * 4004}]
THINKING = {"thinking": {"type": "adaptive"}}


@for_each(
    ("when", "holds", "fails"),
    [
        ({"model": "claude-*-haiku*"}, {"model": "claude-3-haiku-1"}, {"model": "claude-opus"}),
        ({"model": "claude-x"}, {"model": "claude-x"}, {"model": "Claude-x"}),
        ({"thinking": True}, THINKING, {}),
        ({"thinking": False}, {}, THINKING),
        ({"images": True}, {"messages": SEEN}, {}),
        ({"images": False}, {}, {"messages": SEEN}),
        ({"tools": True}, {"tools": [TOOL]}, {}),
        ({"tools": False}, {}, {"tools": [TOOL]}),
        ({"input_tokens_over": 1000}, {"messages": LONG}, {"system": "x" * 3000}),
        ({"model": "claude-*", "tools": True}, {"tools": [TOOL]}, {"model": "x", "tools": [TOOL]}),
        ({"model": "claude-*", "tools": True}, {"tools": [TOOL]}, {}),
    ],
    ids=str,
)
def test_a_rule_holds_for_its_kind_of_request(when: Any, holds: Any, fails: Any) -> None:
    assert When(**when).holds(request(**holds))
    assert not When(**when).holds(request(**fails))


def test_input_tokens_over_a_limit_are_more_than_the_limit() -> None:
    tokens = input_tokens(request())

    assert When(input_tokens_over=tokens - 1).holds(request())
    assert not When(input_tokens_over=tokens).holds(request())


# Shares


def balanced(affinity: Any = None, **weights: float) -> TargetGroup:
    """A group of backends with these weights."""
    targets = (WeightedTarget(name, weight=weight) for name, weight in weights.items())
    return TargetGroup(tuple(targets), "balance", affinity)


def asking(session: str = "", text: str = "Hello") -> Validated:
    headers = {"x-claude-code-session-id": session} if session else {}
    result = validated(messages=[{"role": "user", "content": text}])
    return evolve(result, http=http(headers=headers))


def names(group: TargetGroup, event: Validated) -> list[str]:
    return [target.backend for target in ordered(group, event)]


EVENTS = [asking(f"session-{n}") for n in range(2000)]


def test_with_fallback_the_order_is_that_of_the_config() -> None:
    group = TargetGroup((WeightedTarget("b"), WeightedTarget("a"), WeightedTarget("c")))
    assert {"".join(names(group, event)) for event in EVENTS[:50]} == {"bac"}


@pytest.mark.parametrize("affinity", ["session", "none"])
def test_each_has_its_share_and_all_are_there(affinity: str) -> None:
    group = balanced(affinity, a=1, b=2, c=1)
    orders = [names(group, event) for event in EVENTS]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    first = Counter(order[0] for order in orders)
    assert first["a"] == pytest.approx(500, abs=90)
    assert first["b"] == pytest.approx(1000, abs=110)


def test_a_session_stays_where_it_is() -> None:
    group = balanced(a=1, b=1, c=1)
    assert names(group, asking("one", "Hello")) == names(group, asking("one", "Bye"))
    assert len({names(group, event)[0] for event in EVENTS[:50]}) == 3


def test_without_a_session_the_beginning_of_the_history_counts() -> None:
    for affinity, sessions in (("session", [""]), ("prefix", ["one", "two"])):
        group = balanced(affinity, a=1, b=1, c=1)
        texts = [str(n) for n in range(50)]
        first = [{names(group, asking(item, text))[0] for item in sessions} for text in texts]
        assert all(len(item) == 1 for item in first)
        assert set.union(*first) == {"a", "b", "c"}


def test_without_affinity_the_same_conversation_goes_anywhere() -> None:
    group = balanced("none", a=1, b=1, c=1)
    assert {names(group, EVENTS[0])[0] for _ in range(100)} == {"a", "b", "c"}


def test_when_a_target_is_gone_only_its_own_conversations_move() -> None:
    whole, less = balanced(a=1, b=2, c=3, d=1), balanced(a=1, c=3, d=1)
    moved = Counter[str]()
    for event in EVENTS:
        order = names(whole, event)
        left = [name for name in order if name != "b"]
        assert names(less, event) == left
        if order[0] == "b":
            moved[left[0]] += 1
    assert set(moved) == {"a", "c", "d"}, "and they spread over the others"
    assert moved["c"] > moved["a"]


def test_the_order_does_not_depend_on_the_order_of_the_config() -> None:
    one, other = balanced(a=1, b=2, c=1), balanced(c=1, a=1, b=2)
    assert all(names(one, event) == names(other, event) for event in EVENTS[:100])
