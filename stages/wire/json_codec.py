"""JSON as both wires carry it: strict in, compact out."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import jiter
import orjson

# Only a number with an exponent of three digits or more, or with very many digits before it,
# can be too large for a float. They are found by making all digits the same: a regular
# expression took a quarter of the time of a large request.
_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
_HIGH = r"\\u[dD][89abAB][0-9a-fA-F]{2}"
_LOW = r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# Whole pairs are matched to be passed over; so is an escaped backslash, because what follows it
# is no escape: `\\ud83d` is text.
_SURROGATES = re.compile(rf"\\\\|{_HIGH}{_LOW}|({_HIGH}|{_LOW})")
# An escape at the end that more text can make half a pair, or whole.
_BEGUN = re.compile(
    r"(?<!\\)(?:\\\\)*("
    rf"(?:{_HIGH})?\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?"
    r"|\\u[dD][89abAB][0-9a-fA-F]{0,2}"
    r")\Z"
)
_MANY = b"0" * 200

# The parser holds Python's lock, so nothing else runs until it returns. It takes about 0.1 us for
# a value, 0.3 for a name that it has not seen, 0.015 for an escape; for the digits of a number,
# their square. Within these limits a body of 32 MiB takes it 50 ms, and one text of rare
# characters up to 80.
_MAX_VALUES = 320_000  # that is 100,000 messages of a text each
_MAX_NAMES = 30_000  # different ones; a long one, or one with escapes, counts for ten
_MAX_ESCAPES = 2_000_000
_MAX_DIGITS = 25  # of a number, in a body that may hold many
_NAME = re.compile(rb'"([^"\\]{0,100})"\s{0,10}:')
_PIECE = 64 * 1024
_BY_STEPS = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class TooManyError(ValueError):
    """JSON that would take too much time or memory. The text says what there is too much of."""


class DuplicateKeyError(ValueError):
    """An object has a key twice."""


def decode(data: bytes, *, duplicate_keys: bool = False) -> Any:
    """Parse JSON. Raises ValueError, with line and column, for anything that is not JSON.

    Also refused, though some parsers let it pass: NaN and Infinity, numbers too large for a
    double, and nesting over 200. Duplicate keys raise DuplicateKeyError; with `duplicate_keys` they
    pass, and the last one counts. Raises TooManyError for too many values, different names of
    members, or escapes.
    """
    outside = data
    if len(data) > _MAX_VALUES:
        outside = _outside_strings(data)
        _refuse_many(data, outside)
    try:
        value = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=not duplicate_keys)
    except ValueError as error:
        if str(error).startswith("Detected duplicate key"):
            raise DuplicateKeyError(str(error)) from error
        raise
    _refuse_infinity(outside, value)
    return value


def decode_answer(data: bytes) -> Any:
    """Parse JSON of a backend, which need not be as strict as a client's. Raises ValueError.

    NaN and duplicate keys pass (the last one counts). Half a surrogate pair, or of a character's
    bytes, becomes U+FFFD: a backend sends it that cuts its text between the two.
    """
    try:
        return jiter.from_json(data)
    except ValueError:
        repaired = repair_escapes(data.decode("utf-8", "replace")).encode()
        if repaired == data:
            raise
        return jiter.from_json(repaired)


def repair_escapes(text: str) -> str:
    """JSON text with U+FFFD in the place of each escape that is half a surrogate pair."""
    return _SURROGATES.sub(_repaired, text)


def _repaired(found: re.Match[str]) -> str:
    return r"\ufffd" if found[1] else found[0]


def split_escape(text: str) -> tuple[str, str]:
    """JSON text that goes on, and the escape at its end that may be cut: half a surrogate pair.

    `text` does not begin within an escape. Of two parts, the second may be empty.
    """
    begun = _BEGUN.search(text)
    end = begun.start(1) if begun else len(text)
    return text[:end], text[end:]


def decode_prefix(text: str) -> Any:
    """Parse JSON that may break off anywhere; what is whole by then is kept. Raises ValueError.

    Half a string is none, as in the official SDKs: half a path or command is another one.
    """
    data = text.encode()
    value = jiter.from_json(data, allow_inf_nan=False, partial_mode=True)
    _refuse_infinity(data, value)
    return value


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits, which orjson does not know
        return "".join(_BY_STEPS.iterencode(value)).encode()


def _outside_strings(data: bytes) -> bytes:
    """`data` without its strings. No step of it takes long. Raises TooManyError."""
    found, quotes, held = [], 0, b""
    for start in range(0, len(data), _PIECE):
        piece = held + data[start : start + _PIECE]
        whole = piece.rstrip(b"\\")
        odd = (len(piece) - len(whole)) % 2  # then it escapes what comes first in the next piece
        held = b"\\" * odd
        parts = whole.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        found.append(b"".join(parts[quotes % 2 :: 2]))
        quotes += len(parts) - 1
        if quotes > 4 * _MAX_VALUES:  # its own and those of its name
            raise TooManyError(f"more than {_MAX_VALUES} values")
    return b"".join(found)


def _refuse_many(data: bytes, outside: bytes) -> None:
    """Each value is the first of its list or object, or comes after a comma."""
    starts = range(0, len(data), _PIECE)
    for limit, what, number in (
        (_MAX_VALUES, "values", sum(map(outside.count, (b",", b"[", b"{")))),
        (_MAX_ESCAPES, "escapes", sum(data.count(b"\\", n, n + _PIECE) for n in starts)),
    ):
        if number > limit:
            raise TooManyError(f"more than {limit} {what}")
    if 10 * (names := outside.count(b":")) > _MAX_NAMES:
        seen: set[bytes] = set()
        for start in starts:
            found = _NAME.findall(data, start, start + _PIECE)
            seen.update(found)
            names -= len(found)
        if len(seen) + 10 * max(0, names) > _MAX_NAMES:  # what is left is long
            raise TooManyError(f"more than {_MAX_NAMES} different names of members")
    if b"0" * (_MAX_DIGITS + 1) in outside.translate(_ZEROS):
        raise TooManyError(f"a number of more than {_MAX_DIGITS} digits")


def _refuse_infinity(data: bytes, value: Any) -> None:
    alike = data.translate(_ZEROS)
    large = b"0e000" in alike or b"0e+000" in alike or _MANY in alike
    if large and _has_infinity(value):
        raise ValueError("number out of range")


def _has_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return math.isinf(value)
    if isinstance(value, dict):
        return any(map(_has_infinity, value.values()))
    return isinstance(value, list) and any(map(_has_infinity, value))
