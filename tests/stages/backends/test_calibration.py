"""How far estimates are off, learned from usage."""

from __future__ import annotations

import pytest

from stages.backends.calibration import Calibration


def learned(*prompts: tuple[int, int]) -> float:
    """The ratio after prompts of so many tokens, estimated and told."""
    calibration = Calibration()
    for estimated, told in prompts:
        calibration.learn("m", estimated, told)
    return calibration.ratio("m")


def test_an_estimate_is_believed_until_something_is_told() -> None:
    assert learned() == 1.0


@pytest.mark.parametrize("ratio", [0.6, 1.0, 1.5])
def test_what_is_told_again_and_again_becomes_the_ratio(ratio: float) -> None:
    prompts = [(10_000, int(10_000 * ratio))] * 20
    assert learned(*prompts) == pytest.approx(ratio, rel=0.01)


def test_one_long_prompt_is_enough() -> None:
    assert learned((20_000, 26_000)) == pytest.approx(1.3, rel=0.03)


def test_the_template_around_short_prompts_says_little_of_long_ones() -> None:
    assert learned((12, 40)) < 1.1
    assert learned((20_000, 20_000), *[(12, 40)] * 20) < 1.1


def test_recent_prompts_count_more_than_old_ones() -> None:
    old, recent = [(1000, 1000)] * 30, [(1000, 2000)] * 30
    assert learned(*old, *recent) > 1.8


@pytest.mark.parametrize("told", [0, -5, 499, 4001, 10**9])
def test_a_number_that_cannot_be_of_the_whole_prompt_teaches_nothing(told: int) -> None:
    assert learned((1000, told)) == 1.0


def test_each_model_has_a_ratio_of_its_own() -> None:
    calibration = Calibration()
    calibration.learn("a", 10_000, 20_000)
    assert calibration.ratio("a") > 1.9
    assert calibration.ratio("b") == 1.0


def test_of_many_models_the_least_recently_used_is_forgotten() -> None:
    calibration = Calibration()
    calibration.learn("first", 10_000, 20_000)
    for n in range(99):
        calibration.learn(f"model {n}", 10_000, 20_000)
    calibration.learn("first", 10_000, 20_000)
    calibration.learn("one more", 10_000, 20_000)
    assert calibration.ratio("first") > 1.9
    assert calibration.ratio("model 0") == 1.0
