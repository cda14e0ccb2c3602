"""The median of paired differences, and its interval."""

from __future__ import annotations

import random

import pytest

from tests.bench.paired import Difference, difference


def test_a_drift_of_both_is_no_difference() -> None:
    drifting = [(1.0 + n, 1.5 + n) for n in range(20)]

    assert difference(drifting) == Difference(0.5, 0.5, 0.5, 10.5)


def test_one_disturbed_pair_changes_nothing() -> None:
    assert difference([(1.0, 1.1)] * 20 + [(1.0, 9.0)]).median == pytest.approx(0.1)


def test_few_pairs_have_their_whole_range() -> None:
    result = difference([(1, 2), (1, 4), (1, 3)])

    assert (result.low, result.median, result.high) == (1, 2, 3)


def test_the_interval_has_the_true_median_in_95_of_100() -> None:
    chance = random.Random(1)
    hits = 0
    for _ in range(1000):
        result = difference([(0.0, chance.gauss(3, 1)) for _ in range(20)])
        hits += result.low <= 3 <= result.high

    assert 940 <= hits <= 1000


def test_the_text_has_percent_of_the_base() -> None:
    assert Difference(3e-5, 1e-5, 6e-5, 6e-4).text() == "+5.0 % (+1.7 to +10.0), +30.0 us of 600 us"
