"""The estimate of tokens by size, calibrated by usage."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.chat_completions.token_calibration import TokenCalibration, TokenEstimate
from tests.cases import for_each

quick = settings(derandomize=True, deadline=None, max_examples=60)
SHORT, LONG = (13, 34), (1853, 1874)


def learned(*prompts: tuple[int, int]) -> TokenEstimate:
    """The line after prompts of these sizes and tokens."""
    calibration = TokenCalibration()
    for size, tokens in prompts:
        calibration.learn("m", size, tokens)
    return calibration.line("m")


def estimates(line: TokenEstimate, prompt: tuple[int, int]) -> float:
    """The estimate for a prompt, as a share of its tokens."""
    return line.tokens(prompt[0]) / prompt[1]


def test_a_size_is_believed_until_something_is_reported() -> None:
    assert learned() == TokenEstimate(0.0, 1.0)


# Row L7: as recorded, 60 short prompts made estimates of long ones 2.56 times too high.


@for_each("count", [1, 10, 30, 60, 1000])
def test_row_l7_short_prompts_do_not_spoil_long_estimates(count: int) -> None:
    line = learned(*[SHORT] * count)
    assert estimates(line, LONG) == pytest.approx(1, abs=0.05)
    assert estimates(line, SHORT) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("sizes", [(9, 20), (13, 60), (40, 200)])
def test_row_l7_the_words_of_short_prompts_may_vary(sizes: tuple[int, int]) -> None:
    line = learned(*[(size, size + 21) for size in sizes] * 60)
    assert estimates(line, LONG) == pytest.approx(1, abs=0.1)


def test_row_l7_many_short_prompts_do_not_displace_long_ones() -> None:
    dense = (10_000, 15_000)
    line = learned(dense, *[SHORT] * 500)
    assert estimates(line, dense) == pytest.approx(1, abs=0.05)
    assert estimates(line, SHORT) == pytest.approx(1, abs=0.1)


def test_row_l7_once_both_are_learned_it_is_right_for_both() -> None:
    line = learned(*[SHORT] * 60, *[LONG] * 5)
    assert [line.tokens(size) for size, _ in (SHORT, LONG)] == [34, 1874]


@st.composite
def histories(draw: st.DrawFn) -> tuple[float, float, tuple[int, int], list[tuple[int, int]]]:
    """A backend's constant and factor, the range of the sizes, and prompts with some noise."""
    constant = draw(st.floats(0, 60))
    factor = draw(st.floats(0.7, 1.6))
    low, high = draw(st.sampled_from([(8, 40), (300, 3000), (5000, 100_000), (8, 100_000)]))
    chance = random.Random(draw(st.integers(0, 999)))
    sizes = [round(low * (high / low) ** chance.random()) for _ in range(40)]
    noise = [chance.uniform(0.9, 1.1) for _ in sizes]
    prompts = [
        (size, max(1, round(constant + factor * size * by)))
        for size, by in zip(sizes, noise, strict=True)
    ]
    return constant, factor, (low, high), prompts


@given(histories())
@quick
def test_row_l7_estimates_converge_near_prompts_and_stay_sane(
    history: tuple[float, float, tuple[int, int], list[tuple[int, int]]],
) -> None:
    constant, factor, seen, prompts = history
    line = learned(*prompts)
    for size in (10, 100, 1000, 10_000, 100_000):
        true, estimate = constant + factor * size, line.tokens(size)
        if seen[0] <= size <= seen[1]:
            assert abs(estimate - true) <= 0.15 * true + 5
        else:  # no worse than a size that nothing was learned of, nor than 200 tokens
            assert abs(estimate - true) <= max(0.3 * true, 1.3 * abs(size - true)) + 200


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(-5, 10**7)), max_size=40))
@quick
def test_whatever_is_reported_the_line_stays_within_bounds(reports: list[tuple[int, int]]) -> None:
    line = learned(*reports)
    assert line.constant >= 0
    assert 0.25 <= line.factor <= 4
    assert line.tokens(1) >= 1


# What it learns


@pytest.mark.parametrize("ratio", [0.6, 1.0, 1.5])
def test_repeated_usage_becomes_the_factor(ratio: float) -> None:
    line = learned(*[(10_000, int(10_000 * ratio))] * 20)
    assert line.tokens(10_000) == pytest.approx(10_000 * ratio, rel=0.01)


def test_one_long_prompt_is_enough() -> None:
    assert learned((20_000, 26_000)).tokens(20_000) == pytest.approx(26_000, rel=0.03)


def test_a_system_prompt_that_the_backend_adds_is_a_constant() -> None:
    line = learned(*[(size, size + 2000) for size in (20, 300, 4000)] * 5)
    assert [line.tokens(size) for size in (20, 1000, 8000)] == pytest.approx(
        [2020, 3000, 10_000], rel=0.1
    )


def test_recent_prompts_count_more_than_old_ones() -> None:
    old, recent = [(1000, 1000)] * 30, [(1000, 2000)] * 30
    assert learned(*old, *recent).tokens(1000) > 1900


@for_each("tokens", [0, -5, 499, 8001, 10**9])
def test_a_number_smaller_than_the_prompt_is_ignored(tokens: int) -> None:
    assert learned((1000, tokens)) == TokenEstimate()


def models(calibration: TokenCalibration, names: Iterable[str]) -> list[bool]:
    return [calibration.line(name) != TokenEstimate() for name in names]


def test_each_model_has_a_line_of_its_own() -> None:
    calibration = TokenCalibration()
    calibration.learn("a", 10_000, 20_000)
    assert models(calibration, ["a", "b"]) == [True, False]


def test_of_many_models_the_least_recently_used_is_forgotten() -> None:
    calibration = TokenCalibration()
    calibration.learn("first", 10_000, 20_000)
    for n in range(99):
        calibration.learn(f"model {n}", 10_000, 20_000)
    calibration.learn("first", 10_000, 20_000)
    calibration.learn("one more", 10_000, 20_000)
    assert models(calibration, ["first", "model 0"]) == [True, False]
