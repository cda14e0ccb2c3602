"""Envelopes come back as they were, or are known not to."""

from __future__ import annotations

import base64
import re
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.translation.envelope import (
    BrokenEnvelopeError,
    Envelope,
    is_sealed,
    owner_of,
    seal,
    seal_id,
    unseal,
)
from stages.wire import json_codec
from tests.cases import for_each
from tests.secrets import PROMPT

quick = settings(derandomize=True, deadline=None, max_examples=50)
ID = re.compile(r"[a-zA-Z0-9_-]+")

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
MEMBERS = st.dictionaries(TEXT, VALUES, max_size=3)
ENVELOPES = st.builds(
    Envelope,
    owner=TEXT,
    id=TEXT,
    call=MEMBERS,
    message=MEMBERS,
    text=TEXT,
    call_hash=TEXT,
    salt=TEXT,
)


@given(ENVELOPES)
@quick
def test_an_envelope_comes_back_as_it_was_and_is_valid_as_an_id(envelope: Envelope) -> None:
    for sealed in (seal(envelope), seal_id(envelope)):
        assert ID.fullmatch(sealed)
        assert is_sealed(sealed)
        assert unseal(sealed) == envelope
    assert seal(envelope) == seal(envelope)


@given(ENVELOPES, st.data())
@quick
def test_an_envelope_that_was_cut_or_altered_is_known_to_be(
    envelope: Envelope, data: st.DataObject
) -> None:
    sealed = seal_id(envelope)
    place = data.draw(st.integers(len("toolu_llmp2_"), len(sealed) - 1))
    other = "A" if sealed[place] != "A" else "B"
    for wrong in (sealed[:place], sealed[:place] + other + sealed[place + 1 :]):
        with suppress(BrokenEnvelopeError):
            assert unseal(wrong) == envelope  # only unused bits at the end differ


@for_each("more", ["_4f1d9c", "A", "=", "==", "\n", " ", "é", "-2"])
def test_an_envelope_with_something_added_is_known_to_be_altered(more: str) -> None:
    """As of a gateway that makes ids unique (weave-os/router#914)."""
    with pytest.raises(BrokenEnvelopeError):
        unseal(seal_id(Envelope("a", id="call_0", salt="b")) + more)


@for_each(
    "other",
    [
        *("", "call_0", "toolu_01A09q90qw90lq917835lq9", "EqQBCkYIBRgC", "llmp1.e30=", "toolu_"),
        "call_1__thought__EqQBCkYIBRgC",
        "functions.Bash:0",
    ],
)
def test_pitfall_26_a_foreign_signature_is_no_envelope(other: str) -> None:
    assert unseal(other) is None
    assert not is_sealed(other)


def forged(buffered: Any, raw: bytes | None = None) -> str:
    """An envelope with a right checksum around anything."""
    data = json_codec.encode(buffered) if raw is None else raw
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(data) + packer.flush()
    whole = zlib.crc32(data).to_bytes(4) + packed
    return "llmp2_" + base64.urlsafe_b64encode(whole).decode().rstrip("=")


def test_a_forged_envelope_needs_the_right_types() -> None:
    assert unseal(forged({"o": "a", "x": 1})) == Envelope("a")
    wrong: list[Any] = [
        *([], 1, None, {}, {"o": 1}, {"o": "a", "i": 1}, {"o": "a", "c": []}),
        *({"o": "a", "m": "x"}, {"o": "a", "t": None}, {"o": "a", "f": True}, {"o": "a", "s": {}}),
    ]
    for buffered in wrong:
        with pytest.raises(BrokenEnvelopeError):
            unseal(forged(buffered))
    with pytest.raises(BrokenEnvelopeError):
        unseal(forged(None, b"no JSON"))


def test_a_small_envelope_cannot_fill_the_memory() -> None:
    bomb = forged(None, b'{"o":"a","t":"' + b"x" * 100_000_000 + b'"}')
    tracemalloc.start()
    with pytest.raises(BrokenEnvelopeError):
        unseal(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100 * len(bomb)


@pytest.mark.parametrize("text", ["x" * 100_000, "ab" * 1_000_000, PROMPT])
def test_repetitive_content_comes_back_too(text: str) -> None:
    envelope = Envelope("a", text=text)
    assert unseal(seal(envelope)) == envelope


def test_row_b13_ids_with_small_envelopes_fit_64_characters() -> None:
    """leookun/cursor-byok#364: a client that cuts longer ones."""
    owner = owner_of("backend", "model")
    for identity in ("functions.Bash:0", "functions.TodoWrite:12", "call_0", "call 1"):
        assert len(seal_id(Envelope(owner, id=identity, salt="abcd"))) <= 64


def test_an_owner_is_one_model_of_one_backend_and_names_neither() -> None:
    owners = {
        owner_of(*item) for item in [("a", "b"), ("a", "c"), ("b", "b"), ("ab", ""), ("", "ab")]
    }
    assert len(owners) == 5
    assert "backend" not in owner_of("backend", "model")
