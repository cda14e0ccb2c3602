"""The client library of the store, as far as its URL goes."""

from __future__ import annotations

from stages.shared_store.client import library_url
from tests.cases import for_each


@for_each(
    ("url", "expected"),
    [
        ("valkey://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("valkeys://valkey.example", "rediss://valkey.example"),
        ("redis://valkey:6379/0", "redis://valkey:6379/0"),
        ("redis://:a-valkey-password@store", "redis://:a-valkey-password@store"),
        ("VALKEY://valkey", "redis://valkey"),
        ("REDISS://store", "rediss://store"),
    ],
)
def test_only_the_scheme_of_a_url_is_translated_for_the_library(url: str, expected: str) -> None:
    assert library_url(url) == expected
