"""The accounts of a request, and what it takes from their limits."""

from __future__ import annotations

import pytest
from attrs import fields, frozen

from stages.exchange import Attempt, Exchange, Target
from stages.limits.config import Limits
from stages.limits.limit_set import Account, LimitSet
from stages.limits.section import LimitsSection
from stages.limits.use import Use, cost, total, use_of
from stages.messages_api.usage import Usage
from stages.profiles.price import Price
from tests.support import backend

ONE = Limits(requests_per_minute=1)
TWO = Limits(requests_per_minute=2)
EXCHANGE = Exchange(client="alice", session="s1", agent="a1")


@frozen
class Key:
    limits: Limits


def names(section: LimitsSection, exchange: Exchange = EXCHANGE, model: str = "m") -> list[str]:
    return [account.name for account in section.accounts(exchange, model)]


def test_without_limits_there_are_no_accounts() -> None:
    assert names(LimitsSection()) == []


def test_a_request_counts_against_each_of_its_accounts() -> None:
    section = LimitsSection(ONE, ONE, {"claude-*": ONE, "claude-m": ONE, "x": ONE}, ONE, ONE)

    assert names(section, model="claude-m") == [
        "model:claude-*",
        "model:claude-m",
        "all",
        "key:alice",
        "session:alice/s1",
        "agent:alice/s1/a1",
    ]
    assert names(section, Exchange(client="bob"), "y") == ["all", "key:bob"]


def test_sessions_of_two_keys_are_two_accounts() -> None:
    section = LimitsSection(sessions=ONE)

    assert names(section, Exchange(client="bob", session="s1")) == ["session:bob/s1"]


def test_names_of_clients_have_an_end() -> None:
    section = LimitsSection(sessions=ONE)
    [name] = names(section, Exchange(client="a", session="s" * 5000))

    assert len(name) < 300


def test_a_keys_own_limits_replace_those_of_each_key() -> None:
    section = LimitsSection(keys=ONE)
    section.set_key_limits({"alice": Key(TWO), "carol": Key(Limits())})
    by_key = {
        key: [(each.path, each.limits) for each in section.accounts(Exchange(client=key), "m")]
        for key in ("alice", "bob", "carol")
    }

    assert by_key == {
        "alice": [("keys.alice.limits", TWO)],
        "bob": [("limits.keys", ONE)],
        "carol": [("limits.keys", ONE)],
    }


def test_requests_of_the_same_accounts_share_their_limits() -> None:
    section = LimitsSection(keys=ONE, agents=ONE)
    exchanges = [Exchange(client="a", session=s, agent=a) for s, a in ("s1", "s2", "t1", "s1")]
    sets = [section.of(exchange, "m") for exchange in exchanges]

    assert sets[0] is sets[3]
    names = [[each.account.name for each in made.limits] for made in sets if made]
    assert names == [["key:a", f"agent:a/{s}/{a}"] for s, a in ("s1", "s2", "t1", "s1")]


def test_sets_of_clients_names_are_bounded() -> None:
    section = LimitsSection(sessions=ONE)
    for n in range(2500):
        section.of(Exchange(client="a", session=str(n)), "m")

    assert len(section._sets) <= 1000


def test_a_reload_keeps_the_counts() -> None:
    running, reloaded = LimitsSection(), LimitsSection(all=ONE)
    reloaded.carry_over(running)

    assert reloaded.store is running.store
    assert reloaded.estimates is running.estimates


def amounts(limits: Limits, used: Use, price: float = 0) -> dict[str, float]:
    each = LimitSet.of([Account("all", "", "", limits)])
    names = [limit.limit.name for limit in each.limits]
    return dict(zip(names, each.amounts(used, price), strict=True))


def test_cache_reads_count_only_if_the_config_says_so() -> None:
    used = Use(10, 1000, 100, 7)
    limits = {"input_tokens_per_minute": 1, "tokens_per_day": 1, "output_tokens_per_hour": 1}

    without = amounts(Limits(**limits), used)  # type: ignore[arg-type]
    with_reads = amounts(Limits(**limits, count_cache_reads=True), used)

    assert list(without.values()) == [117, 110, 7]
    assert list(with_reads.values()) == [1117, 1110, 7]


def test_each_limit_that_is_set_has_an_amount() -> None:
    every = {
        field.name: 1
        for field in fields(Limits)
        if field.init and field.name not in ("concurrency_timeout", "count_cache_reads")
    }
    limits = amounts(Limits(**every), Use(1, output_tokens=1), 3.5)  # type: ignore[arg-type]

    assert limits.keys() == every.keys()
    assert limits["cost_per_day"] == limits["cost_per_month"] == 3.5
    assert limits["requests_per_hour"] == limits["concurrent_requests"] == 1


def test_all_attempts_cost_by_the_price_of_their_target() -> None:
    cheap, expensive = Target("one", "a"), Target("two", "b")
    exchange = Exchange(
        attempts=[
            Attempt(cheap, 10, ended=11, usage=Usage(1_000_000, 0)),
            Attempt(expensive, 11, ended=11, error="overloaded"),
            Attempt(expensive, 12, ended=14),
        ]
    )
    exchange.usage = Usage(2_000_000, 1_000_000, 500_000)
    backends = {
        "one": backend(price=(Price(input=1),)),
        "two": backend(price=(Price(input=1, output=10, cache_read=0.5),)),
    }
    parts = [use_of(attempt, exchange) for attempt in exchange.attempts]

    assert total(parts) == Use(3_000_000, 500_000, 0, 1_000_000, 3)
    assert [
        cost(part, attempt.target, backends)
        for part, attempt in zip(parts, exchange.attempts, strict=True)
    ] == [1, 0, 12.25]


@pytest.mark.parametrize("since", ["2999-01-01"])
def test_a_price_of_the_future_costs_nothing_yet(since: str) -> None:
    backends = {"one": backend(price=(Price(input=1, since=since),))}

    assert cost(Use(1_000_000), Target("one", "a"), backends) == 0
