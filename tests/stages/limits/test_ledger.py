"""The ledger: the tables of its module and of counts.py, on a clock that is a number."""

from __future__ import annotations

import pytest
from attrs import evolve

from stages.limits.config import Period
from stages.limits.counts import window
from stages.limits.ledger import Ledger
from stages.limits.store import Admitted, Refused
from tests.cases import for_each
from tests.stages.limits.ledgers import NewLedger
from tests.stages.limits.ledgers import ledger_server as ledger_server
from tests.stages.limits.ledgers import new_ledger as new_ledger
from tests.stages.limits.support import AnyLedger, Ask, admit, budget, places, rate

#: 2026-11-28T12:00:00Z, as in life: rounding errors depend on it.
NOW = 1_795_867_200.0


def admitted(ledger: AnyLedger, hold: str, *wants: Ask, at: float = 0, queue: bool = False) -> bool:
    return isinstance(admit(ledger, NOW + at, hold, *wants, queue=queue), Admitted)


def refused(ledger: AnyLedger, *wants: Ask, at: float = 0, hold: str = "refused") -> Refused:
    result = admit(ledger, NOW + at, hold, *wants)
    assert isinstance(result, Refused)
    return result


def left(ledger: AnyLedger, want: Ask, at: float = 0) -> float:
    """What remains of a limit, by an admission that takes nothing."""
    remaining = admit(ledger, NOW + at, "left", evolve(want, amount=0)).levels[0].remaining
    ledger.settle(NOW + at, "left", [0])
    return remaining


@for_each("maximum", [1, 7, 100, 1000])
def test_a_rate_admits_its_maximum_at_once_and_no_more(maximum: int, new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    number = sum(admitted(ledger, str(n), rate(maximum), at=n * 1e-9) for n in range(maximum + 5))

    assert number == maximum


def test_a_rate_refills_continuously(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    for n in range(60):
        assert admitted(ledger, str(n), rate(60))
    assert refused(ledger, rate(60), at=0.5).retry_after == pytest.approx(0.5)
    assert admitted(ledger, "61", rate(60), at=1)
    assert not admitted(ledger, "62", rate(60), at=1.5)


def test_a_million_tokens_a_minute_are_fifty_calls_of_20000(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    want = rate(1_000_000, 20_000)
    for n in range(50):
        assert admitted(ledger, str(n), want, at=n / 1000)
    assert 0.9 < refused(ledger, want, at=0.2).retry_after < 1.2


def test_an_estimate_above_the_maximum_needs_all_of_it(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    assert admitted(ledger, "1", rate(100, 250))
    assert refused(ledger, rate(100, 250), at=30).retry_after == pytest.approx(30)
    assert admitted(ledger, "2", rate(100, 250), at=60)


def test_the_rest_of_an_estimate_is_given_back(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", rate(100, 80))
    ledger.settle(NOW, "1", [10])
    assert left(ledger, rate(100)) == 90


def test_use_above_the_estimate_is_a_debt(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", rate(60, 10))
    ledger.settle(NOW, "1", [180])
    result = refused(ledger, rate(60), at=60)
    assert result.levels[0].remaining == pytest.approx(-60)
    assert result.retry_after == pytest.approx(61)


def test_nothing_is_given_back_of_an_estimate_that_has_leaked(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "slow", rate(100, 90))
    assert admitted(ledger, "2", rate(100, 100), at=120)
    ledger.settle(NOW + 120, "slow", [0])
    assert left(ledger, rate(100), at=120) == 0


def test_a_debt_counts_also_when_the_estimate_has_leaked() -> None:
    ledger = Ledger()
    admitted(ledger, "slow", rate(100, 90))
    ledger.settle(NOW + 120, "slow", [150])
    assert left(ledger, rate(100), at=120) == 40


def test_a_budget_is_spent_until_the_end_of_its_day(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", budget(5, 2))
    ledger.settle(NOW, "1", [4.5])
    result = refused(ledger, budget(5, 1))
    assert (result.used_up, result.retry_after) == (True, 12 * 3600)
    assert result.levels[0].remaining == pytest.approx(0.5)
    assert admitted(ledger, "2", budget(5, 0.4))
    assert admitted(ledger, "3", budget(5, 4), at=12 * 3600)


def test_what_requests_in_flight_may_cost_is_not_used_up(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", budget(5, 4))
    result = refused(ledger, budget(5, 2))
    assert not result.used_up
    assert result.retry_after < 60


def test_a_budget_that_is_spent_refuses_also_what_is_free(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", budget(5, 2))
    ledger.settle(NOW, "1", [5])
    assert refused(ledger, budget(5, 0)).used_up


def test_a_hold_of_yesterday_is_spent_today(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", budget(5, 2), at=12 * 3600 - 1)
    ledger.settle(NOW + 12 * 3600, "1", [3])
    assert left(ledger, budget(5, 0), at=12 * 3600) == 2


def test_a_month_ends_with_its_last_day() -> None:
    assert window(NOW, "month") == (1793491200, 1796083200)
    assert window(1796083200, "month") == (1796083200, 1798761600)
    assert window(1798761599.9, "month") == (1796083200, 1798761600)
    assert window(1798761600, "month") == (1798761600, 1801440000)


def test_concurrency_is_free_again_after_the_end(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    assert admitted(ledger, "1", places(2))
    assert admitted(ledger, "2", places(2))
    assert not admitted(ledger, "3", places(2))
    ledger.settle(NOW, "1", [1])
    assert admitted(ledger, "3", places(2))


def test_one_refusal_takes_from_no_limit(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    wants = (rate(100, 10), budget(5, 1), places(5), rate(1, 1, "key:a"))
    assert admitted(ledger, "1", *wants)
    before = [left(ledger, want) for want in wants[:2]]

    for n in range(20):
        result = refused(ledger, *wants, hold=f"no {n}")

    assert result.want == 3
    assert [left(ledger, want) for want in wants[:2]] == before
    assert all(admitted(ledger, f"place {n}", places(5)) for n in range(4))


def test_of_several_refusals_the_longest_counts() -> None:
    ledger = Ledger()
    wants = (rate(1), rate(1, period="hour"), rate(1, account="key:a"), places(1))
    admitted(ledger, "1", *wants)
    assert refused(ledger, *wants).want == 1


def test_concurrency_counts_only_if_all_else_fits() -> None:
    ledger = Ledger()
    admitted(ledger, "1", rate(1000), places(1))
    assert refused(ledger, places(1), rate(1000)).want == 0
    assert refused(ledger, places(1), rate(1000, 1000)).want == 1


def test_a_second_admit_of_a_hold_takes_nothing(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    for _ in range(3):
        assert admitted(ledger, "1", rate(10, 4), places(1))
    assert left(ledger, rate(10)) == 6


def test_a_second_settle_changes_nothing(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", rate(10, 4), budget(5, 1), places(1))
    for _ in range(3):
        ledger.settle(NOW, "1", [2, 3, 1])
    assert left(ledger, rate(10)) == 8
    assert left(ledger, budget(5, 0)) == 2
    assert left(ledger, places(1)) == 0, "the probe itself has the place"


def test_an_unknown_hold_is_ignored(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    ledger.settle(NOW, "never", [1])
    ledger.renew(NOW, "never")
    assert left(ledger, rate(10)) == 10


def test_a_lease_ends_without_renewal(new_ledger: NewLedger) -> None:
    ledger = new_ledger(lease=60)
    admitted(ledger, "1", budget(5, 4), places(1))
    assert not admitted(ledger, "2", places(1), at=59.9)
    assert admitted(ledger, "2", places(1), at=60)
    assert left(ledger, budget(5, 0), at=60) == 5


def test_a_renewal_begins_the_lease_again(new_ledger: NewLedger) -> None:
    ledger = new_ledger(lease=60)
    admitted(ledger, "1", places(2))
    admitted(ledger, "2", places(2), at=10)
    ledger.renew(NOW + 50, "1")
    assert not admitted(ledger, "3", places(1), at=100)
    assert ledger.next_end == NOW + 110
    assert admitted(ledger, "3", places(1), at=110)


def test_an_expired_hold_is_still_settled(new_ledger: NewLedger) -> None:
    ledger = new_ledger(lease=60)
    admitted(ledger, "1", rate(100, 10), budget(5, 4), places(1))
    ledger.settle(NOW + 600, "1", [50, 3, 1])
    assert left(ledger, rate(100), at=600) == 60
    assert left(ledger, budget(5, 0), at=600) == 2
    assert admitted(ledger, "2", places(1), at=600)


def test_an_expired_hold_that_is_renewed_counts_again() -> None:
    ledger = Ledger(lease=60)
    admitted(ledger, "1", budget(5, 4), places(1))
    ledger.renew(NOW + 600, "1")
    assert not admitted(ledger, "2", places(1), at=600)
    assert left(ledger, budget(5, 0), at=600) == 1
    ledger.settle(NOW + 600, "1", [1, 1])
    assert admitted(ledger, "2", places(1), at=600)


def test_expired_holds_are_dropped_after_an_hour(new_ledger: NewLedger) -> None:
    ledger = new_ledger(lease=60)
    admitted(ledger, "1", budget(5, 4))
    ledger.settle(NOW + 3660, "1", [3])
    assert left(ledger, budget(5, 0), at=3660) == 5


def test_the_longest_waiting_request_gets_the_place(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", places(1))
    for hold in ("2", "3"):
        assert not admitted(ledger, hold, places(1), queue=True)
    assert ledger.take_ready() == []
    ledger.settle(NOW, "1", [1])

    assert ledger.take_ready() == ["2"]
    assert not admitted(ledger, "new", places(1))
    assert not admitted(ledger, "3", places(1), queue=True)
    assert admitted(ledger, "2", places(1), queue=True)


def test_a_waiting_request_that_leaves_makes_the_next_one_ready(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", places(1))
    for hold in ("2", "3"):
        admitted(ledger, hold, places(1), queue=True)
    ledger.settle(NOW, "1", [1])
    ledger.take_ready()
    ledger.leave("2")
    assert ledger.take_ready() == ["3"]


def test_a_waiting_request_that_a_rate_refuses_waits_no_longer(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", places(1))
    admitted(ledger, "2", places(1), rate(1), queue=True)
    admitted(ledger, "3", rate(1))
    ledger.settle(NOW, "1", [1])
    assert refused(ledger, places(1), rate(1), hold="2").want == 1
    assert admitted(ledger, "4", places(1))


def test_a_higher_maximum_lets_more_requests_wait_no_longer(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", places(1))
    admitted(ledger, "2", places(1), queue=True)
    assert not admitted(ledger, "new", places(2))
    assert admitted(ledger, "2", places(2))


def test_a_waiting_request_has_the_higher_maximum_of_a_later_config(new_ledger: NewLedger) -> None:
    """Otherwise it would wait as long as requests of the later config are in flight."""
    ledger = new_ledger()
    admitted(ledger, "1", places(1))
    assert not admitted(ledger, "waits", places(1), queue=True)
    assert admitted(ledger, "2", places(3))
    assert admitted(ledger, "waits", places(1), queue=True)


def test_a_waiting_request_has_the_lower_maximum_of_a_later_config(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    for hold in ("1", "2"):
        admitted(ledger, hold, places(2))
    assert not admitted(ledger, "waits", places(2), queue=True)
    assert not admitted(ledger, "3", places(1))
    ledger.settle(NOW, "1", [1])
    assert not admitted(ledger, "waits", places(2), queue=True)
    ledger.settle(NOW, "2", [1])
    assert ledger.take_ready() == ["waits"]
    assert admitted(ledger, "waits", places(2), queue=True)


def test_unused_counts_take_no_memory() -> None:
    ledger = Ledger()
    for n in range(5000):
        admitted(ledger, str(n), rate(60, account=f"session:{n}"), at=n)
    assert len(ledger._counts) <= 1001


def test_counts_of_clients_names_are_bounded() -> None:
    ledger = Ledger(max_counts=2000)
    admitted(ledger, "kept", rate(60, 60, "key:a", "day"))
    for n in range(9000):
        admitted(ledger, str(n), rate(60, 60, f"session:{n}", "day"))
    assert len(ledger._counts) <= 2000
    assert not admitted(ledger, "more", rate(60, 1, "key:a", "day"))


def test_with_more_keys_than_counts_a_search_is_still_rare() -> None:
    ledger = Ledger(max_counts=2000)
    for n in range(3000):
        admitted(ledger, str(n), rate(60, 60, f"key:{n}", "day"))
    assert len(ledger._counts) == 3000
    assert ledger._sweep_at >= 3000


def test_a_clock_that_goes_back_gives_nothing_twice(new_ledger: NewLedger) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", rate(60, 60), budget(5, 1))
    ledger.settle(NOW, "1", [60, 5])
    assert not admitted(ledger, "2", rate(60), at=-86400)
    assert refused(ledger, budget(5, 1), at=-86400).used_up
    assert admitted(ledger, "2", rate(60), at=-86399)


@for_each("period", ["day", "month"])
def test_a_clock_that_was_far_ahead_does_not_hold_back_a_budget(
    new_ledger: NewLedger, period: Period
) -> None:
    ledger = new_ledger()
    admitted(ledger, "1", budget(5, 1, period=period), at=400 * 86400)
    ledger.settle(NOW + 400 * 86400, "1", [5])
    assert admitted(ledger, "2", budget(5, 5, period=period))
    ledger.settle(NOW, "2", [5])
    assert refused(ledger, budget(5, 1, period=period)).used_up
