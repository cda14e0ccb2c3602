"""Tool names and call ids in the shape a backend takes."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.translation.tool_names import CallIdMap, backend_call_id, short_name

NAMES = st.text("abc_-", min_size=1, max_size=128)


@given(st.sets(NAMES, max_size=20), st.integers(20, 64))
def test_names_are_shortened_injectively(names: set[str], limit: int) -> None:
    short = {short_name(name, limit): name for name in names}

    assert len(short) == len(names)
    assert all(len(name) <= limit for name in short)


def test_a_name_that_fits_stays_as_it_is() -> None:
    assert short_name("x" * 64, 64) == "x" * 64


@given(st.lists(st.sampled_from(["call_0", "call_0-2", "call_0-2-2", "x" * 50]), max_size=12))
def test_pitfall_37_ids_of_calls_are_unique_in_the_conversation(identities: list[str]) -> None:
    ids = CallIdMap(40)
    given_ids = [ids.next(identity) for identity in identities]

    assert len(set(given_ids)) == len(given_ids)
    assert all(len(identity) <= 40 for identity in given_ids)


@given(
    st.lists(st.sampled_from(["call_0", "call_0-2", "abcdefgh1", "12345678é", ""]), max_size=12),
    st.sampled_from([8, 9, 64]),
)
def test_pitfall_37_ids_can_have_an_exact_length(identities: list[str], length: int) -> None:
    first, second = CallIdMap(64, length), CallIdMap(64, length)
    given_ids = [first.next(identity) for identity in identities]

    assert len(set(given_ids)) == len(given_ids)
    assert all(
        len(given_id) == length and given_id.isascii() and given_id.isalnum()
        for given_id in given_ids
    )
    assert [second.next(identity) for identity in identities] == given_ids


def test_an_id_of_the_exact_length_stays_as_it_is() -> None:
    assert backend_call_id("abcDEF123", 64, 9) == "abcDEF123"
    assert backend_call_id("abc-EF123", 64, 9) != "abc-EF123"


def test_ids_stay_the_same_when_the_conversation_grows() -> None:
    first, second = CallIdMap(64), CallIdMap(64)
    short = [first.next(identity) for identity in ("a", "a")]
    long = [second.next(identity) for identity in ("a", "a", "b")]

    assert long[:2] == short
    assert short[0] == "a"


@pytest.mark.untraced
def test_an_id_that_comes_thousands_of_times_takes_linear_time() -> None:
    began, ids = time.process_time(), CallIdMap(64)
    assert len({ids.next("call_0") for _ in range(20_000)}) == 20_000
    assert time.process_time() - began < 10  # 0.03 s; counted from 2 each time, a minute


def test_an_id_over_the_limit_is_replaced_by_one_within_it() -> None:
    for limit in (20, 40, 64):
        assert len(backend_call_id("x" * (limit + 1), limit)) <= limit
    assert backend_call_id("x" * 40, 40) == "x" * 40


def test_ids_with_odd_characters_are_replaced_and_stay_different() -> None:
    first, second = CallIdMap(64), CallIdMap(64)
    odd = ["a:b", "a.b", "a b", "é", "", "toolu_a-b"]
    result = [first.next(item) for item in odd]
    assert result[-1] == "toolu_a-b"
    assert len(set(result)) == len(odd)
    assert all(re.fullmatch("[A-Za-z0-9_-]+", item) for item in result)
    assert [second.next(item) for item in odd] == result
