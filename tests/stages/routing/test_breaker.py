"""Circuit breakers: the table of states, on a clock that is a number."""

from __future__ import annotations

import pytest

from stages.routing.breaker import Breaker, Breakers, Change
from tests.cases import for_each

LIMITS = Breakers(failures=3, window=10, cooldown=30)


def failing(*times: float) -> Breaker:
    """A breaker after failures at these times."""
    breaker = Breaker("target", LIMITS)
    for time in times:
        fail(breaker, time)
    return breaker


def fail(breaker: Breaker, time: float) -> None:
    """An attempt that fails at once."""
    attempt = breaker.attempt(time)
    attempt.failed(time)
    attempt.finished()


def test_it_is_closed_below_the_limit_of_failures() -> None:
    assert failing().state(0) == "closed"
    assert failing(1, 2).state(2) == "closed"
    assert failing(1, 2).allows(2)
    assert failing(1, 2, 3).state(3) == "open"
    assert not failing(1, 2, 3).allows(3)


def test_failures_count_that_lie_within_the_window() -> None:
    assert failing(0, 5, 10).state(10) == "closed"
    assert failing(0.1, 5, 10).state(10) == "open"


def test_a_success_in_between_forgets_them() -> None:
    breaker = failing(1, 2)
    breaker.attempt(3).succeeded()
    fail(breaker, 4)
    fail(breaker, 5)
    assert breaker.state(5) == "closed"


def test_after_the_cooldown_one_request_probes() -> None:
    breaker = failing(1, 2, 3)
    assert not breaker.allows(32.9)
    assert breaker.state(33) == "half-open"
    assert breaker.allows(33)
    assert breaker.allows(33), "to ask is not to go"
    breaker.attempt(33)
    assert not breaker.allows(99)


def test_a_probe_that_succeeds_closes_it() -> None:
    breaker = failing(1, 2, 3)
    breaker.attempt(33).succeeded()
    assert breaker.state(34) == "closed"
    assert [(breaker.allows(34), breaker.attempt(34))[0] for _ in range(2)] == [True, True]
    fail(breaker, 35)
    assert breaker.state(35) == "closed", "the failures before are forgotten"


def test_a_half_open_attempt_that_breaks_off_counts() -> None:
    breaker = failing(1, 2, 3)
    breaker.attempt(33).response_started()
    assert breaker.state(34) == "closed"
    for time in (35, 36, 37):
        assert breaker.state(time) == "closed"
        attempt = breaker.attempt(time)
        attempt.response_started()
        attempt.failed(time)
    assert breaker.state(37) == "open"


def test_a_probe_that_fails_opens_it_again() -> None:
    breaker = failing(1, 2, 3)
    probe = breaker.attempt(33)
    probe.failed(40)
    probe.finished()
    assert breaker.state(69) == "open"
    assert breaker.state(70) == "half-open"
    assert breaker.allows(70)


def test_a_half_open_attempt_without_result_allows_another() -> None:
    breaker = failing(1, 2, 3)
    breaker.attempt(33).finished()
    assert breaker.state(34) == "half-open"
    assert breaker.allows(34)
    breaker.attempt(34)
    assert not breaker.allows(34)


@for_each("end", ["response_started", "succeeded", "failed"])
@for_each("when", ["before it opened", "next to the probe"])
def test_only_the_half_open_attempt_counts(when: str, end: str) -> None:
    breaker = failing(1, 2)
    other = breaker.attempt(3)
    fail(breaker, 3)
    probe = breaker.attempt(33)
    if when == "next to the probe":  # as where all targets are left alone
        other = breaker.attempt(33)
    other.failed(34) if end == "failed" else getattr(other, end)()
    other.finished()
    assert breaker.state(34) == "half-open"
    assert not breaker.allows(34), "the probe is in flight"
    probe.response_started()
    assert breaker.state(34) == "closed"


@pytest.mark.parametrize("end", ["response_started", "succeeded", "failed"])
def test_a_call_that_ends_while_it_is_open_changes_nothing(end: str) -> None:
    breaker = failing(1, 2)
    late = [breaker.attempt(2.5) for _ in range(LIMITS.failures)]
    fail(breaker, 3)
    for item in late:
        item.failed(20) if end == "failed" else getattr(item, end)()
        item.finished()
    assert breaker.state(32.9) == "open"
    assert breaker.state(33) == "half-open"


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_a_call_from_before_the_opening_counts_for_nothing(end: str) -> None:
    breaker = failing(1, 2)
    late = [breaker.attempt(2.5) for _ in range(LIMITS.failures)]
    fail(breaker, 3)
    breaker.attempt(33).response_started()
    fail(breaker, 34)
    fail(breaker, 34)
    for item in late:
        item.failed(35) if end == "failed" else item.succeeded()
    assert breaker.state(35) == "closed"
    fail(breaker, 35)
    assert breaker.state(35) == "open", "those of now do count"


def test_a_probe_that_breaks_off_what_it_began_counts() -> None:
    breaker = failing(1, 2, 3)
    probe = breaker.attempt(33)
    probe.response_started()
    probe.failed(34)
    fail(breaker, 35)
    fail(breaker, 35)
    assert breaker.state(35) == "open"


def test_each_target_has_its_own() -> None:
    breakers = Breakers(failures=1)
    fail(breakers.get("one"), 5)
    assert breakers.get("two").allows(6)
    assert breakers.states(6) == {"one": "open", "two": "closed"}


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"window": 0}, {"cooldown": -1}], ids=str)
def test_limits_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Breakers(**wrong)  # type: ignore[arg-type]


def sharing(*names: str) -> list[Breakers]:
    """Breakers of several processes with shared changes: probes at 31, others at 0."""
    processes = [Breakers(failures=1, cooldown=30) for _ in names]
    for process in processes:
        others = [other for other in processes if other is not process]

        def on_change(label: str, change: Change, others: list[Breakers] = others) -> None:
            for other in others:
                other.apply(label, change, 31 if change == "probing" else 0)

        process.on_change = on_change
    return processes


def test_an_opening_is_shared_and_one_process_probes() -> None:
    one, two = (each.get("t") for each in sharing("one", "two"))
    fail(one, 0)
    assert (two.state(0), two.allows(29)) == ("open", False)
    probe = two.attempt(31)
    assert not one.allows(31)
    one.attempt(31).failed(31)  # every target was open: it does not count
    probe.response_started()
    assert (one.state(31), two.state(31)) == ("closed", "closed")


def test_a_probe_without_a_result_lets_another_process_probe() -> None:
    one, two = (each.get("t") for each in sharing("one", "two"))
    fail(one, 0)
    two.attempt(31).finished()
    assert one.allows(31)
    one.attempt(31)
    assert not two.allows(31)


def test_a_probe_of_a_process_that_died_counts_for_a_cooldown() -> None:
    one, two = (each.get("t") for each in sharing("one", "two"))
    fail(one, 0)
    two.attempt(31)
    assert [one.allows(now) for now in (60, 61)] == [False, True]


def test_probes_of_processes_that_cannot_be_reached_are_forgotten() -> None:
    processes = sharing("one", "two")
    one, two = (each.get("t") for each in processes)
    fail(one, 0)
    two.attempt(31)
    processes[0].release_probes()  # the other cannot be reached
    assert one.allows(31)
