"""Estimates of what a request will use."""

from __future__ import annotations

from attrs import evolve

from stages.limits.estimates import Estimates, prompt_bytes
from stages.limits.use import Use
from tests.support import resolved


def test_without_experience_a_prompt_has_a_token_for_four_bytes() -> None:
    estimate = Estimates().estimate("a", 4000, 200)

    assert estimate == Use(input_tokens=1000, output_tokens=200)


def test_without_experience_a_response_has_at_most_1000_tokens() -> None:
    assert Estimates().estimate("a", 4, 32000).output_tokens == 1000
    assert Estimates().estimate("a", 4, None).output_tokens == 1000


def test_the_responses_of_a_key_determine_the_estimate() -> None:
    estimates = Estimates()
    for n in range(100):
        estimates.learn("a", 4000, Use(100, 1800, 100, 300 if n % 10 else 900, 2.0))

    estimate = estimates.estimate("a", 8000, 32000)

    assert (estimate.input_tokens, estimate.cache_read_tokens) == (400, 3600)
    assert estimate.output_tokens == 900
    assert estimate.seconds == 2
    assert estimates.estimate("b", 8000, 32000) == Use(2000, output_tokens=1000)


def test_a_rare_long_response_does_not_count() -> None:
    estimates = Estimates()
    for n in range(64):
        estimates.learn("a", 4000, Use(output_tokens=9000 if n == 5 else 300))

    assert estimates.estimate("a", 0, 32000).output_tokens == 300


def test_it_remembers_a_bounded_number_of_keys() -> None:
    estimates = Estimates()
    for n in range(3000):
        estimates.learn(f"key {n}", 1, Use(output_tokens=5))

    assert len(estimates._keys) == 1000
    assert estimates.estimate("key 2999", 1, None).output_tokens == 5


def test_base64_is_no_text() -> None:
    image = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1_000_000},
    }
    event = resolved(messages=[{"role": "user", "content": [image]}])

    assert prompt_bytes(evolve(event, size=1_000_500)) == 500 + 5200
    assert prompt_bytes(evolve(event, size=500)) == 500
