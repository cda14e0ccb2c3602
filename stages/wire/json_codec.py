"""JSON of both protocols: strict decoding, compact encoding."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import jiter
import orjson

# Only a number with an exponent of three digits or more, or with very many digits before it, can be
# too large for a float. To find them, all digits are replaced by 0: a regular expression took a
# quarter of the time of a large request.
_ZEROS = bytes.maketrans(b"123456789E", b"000000000e")
_HIGH = r"\\u[dD][89abAB][0-9a-fA-F][0-9a-fA-F]"
_LOW = r"\\u[dD][c-fC-F][0-9a-fA-F][0-9a-fA-F]"
_PAIR = rf"{_HIGH}{_LOW}"
_HALVES = rf"(?:{_LOW}|{_HIGH}(?!{_LOW}))*()"
# Whole pairs match, to be skipped. An escaped backslash matches too, because the text after it is
# not an escape: `\\ud83d` is text. A run is one match, because a match costs 0.2 us. Each branch
# begins with a backslash, so that the engine can search for it. Halves set the empty group.
_SURROGATES = re.compile(rf"\\\\(?:\\\\)*|{_PAIR}(?:{_PAIR})*|{_HIGH}{_HALVES}|{_LOW}{_HALVES}")
# An escape at the end of a text that is half a pair, or incomplete.
_CUT_ESCAPE = re.compile(
    r"(?:\\.|[^\\])*?("
    rf"(?:{_HIGH})?\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?"
    r"|\\u[dD][89abAB][0-9a-fA-F]{0,2}"
    r")\Z",
    re.DOTALL,
)
_MAX_CUT_ESCAPE = 11  # characters: a pair has 12
_MANY = b"0" * 200

# The parser holds Python's lock: nothing else runs until it returns. A value takes about 0.1 us, a
# new name 0.3 us, an escape 0.015 us; the time for a number grows with the square of its digits.
# Within these limits a body of 32 MiB takes 50 ms, and one text of rare characters up to 80 ms.
_MAX_VALUES = 320_000  # 100,000 messages with one text each
_MAX_NAMES = 30_000  # distinct ones; a long one, or one with escapes, counts as ten
_MAX_ESCAPES = 2_000_000
_MAX_DIGITS = 25  # of a number, in a body that is long enough for many
_NAME = re.compile(rb'"([^"\\]{0,100})"\s{0,10}:')
_SLICE = 64 * 1024
#: Lists and objects within each other; the parser's own limit.
MAX_DEPTH = 200
_BY_STEPS = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class TooManyError(ValueError):
    """JSON that would take too much time or memory. The text names the limit."""


class DuplicateKeyError(ValueError):
    """An object has a duplicate key."""


class TruncatedError(ValueError):
    """JSON that ends too early."""


def decode(data: bytes, *, duplicate_keys: bool = False, finite: bool = True) -> Any:
    """Parse JSON. Raises ValueError, with line and column, if `data` is not valid JSON.

    Unlike some parsers this also refuses NaN and Infinity, numbers too large for a double, and
    nesting over MAX_DEPTH. Duplicate keys raise DuplicateKeyError; with `duplicate_keys` the last
    one counts. Raises TooManyError for too many values, distinct names of members, or escapes, and
    TruncatedError for JSON that ends too early. Not `finite`: a number too large for a double is
    infinity, and the caller has to refuse it.
    """
    outside = refuse_many(data) if len(data) > _MAX_VALUES else data
    try:
        value = jiter.from_json(data, allow_inf_nan=False, catch_duplicate_keys=not duplicate_keys)
    except ValueError as error:
        if str(error).startswith("Detected duplicate key"):
            raise DuplicateKeyError(str(error)) from error
        if str(error).startswith("EOF while parsing"):
            raise TruncatedError(str(error)) from error
        raise
    if finite:
        refuse_infinity(outside, value)
    return value


def decode_lenient(data: bytes) -> Any:
    """Parse the JSON of a backend, less strictly than a client's. Raises ValueError.

    NaN is accepted, and so are duplicate keys (the last one counts). Half a surrogate pair, or an
    incomplete UTF-8 sequence, becomes U+FFFD: some backends split their text there.
    """
    try:
        return jiter.from_json(data)
    except ValueError:
        repaired = repair_escapes(data.decode("utf-8", "replace")).encode()
        if repaired == data:
            raise
        return jiter.from_json(repaired)


def repair_escapes(text: str) -> str:
    """Replace each escape in a JSON text that is half a surrogate pair by U+FFFD."""
    if r"\ud" not in text and r"\uD" not in text:
        return text
    return _SURROGATES.sub(_repair, text)


def _repair(match: re.Match[str]) -> str:
    return r"\ufffd" * (len(match[0]) // len(r"\ud83d")) if match.lastindex else match[0]


def split_escape(text: str) -> tuple[str, str]:
    """Split a piece of JSON text before a cut escape at its end, as half a surrogate pair.

    `text` must not begin within an escape. The second part is empty if no escape is cut.
    """
    start = max(0, len(text) - _MAX_CUT_ESCAPE)
    backslashes = start - len(text[:start].rstrip("\\"))
    start -= backslashes % 2  # then the last one escapes the next character
    match = _CUT_ESCAPE.match(text, start)
    end = match.start(1) if match else len(text)
    return text[:end], text[end:]


def decode_prefix(text: str) -> Any:
    """Parse JSON that may be truncated anywhere; complete values are kept. Raises ValueError.

    A truncated string is dropped, as in the official SDKs: half a path is a different path.
    """
    data = text.encode()
    value = jiter.from_json(data, allow_inf_nan=False, partial_mode=True)
    refuse_infinity(data, value)
    return value


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8."""
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits, which orjson does not support
        return "".join(_BY_STEPS.iterencode(value)).encode()


def encode_exact(value: Any, start: int = 0, end: int | None = None) -> bytes | None:
    """As `encode`, for bytes that are kept: those of orjson hold about ten times their memory.

    Return the bytes from `start` to `end`. None for an integer of more than 64 bits: a body that
    has one is encoded as a whole.
    """
    try:
        return bytes(memoryview(orjson.dumps(value))[start:end])
    except TypeError:
        return None


def _outside_strings(data: bytes) -> bytes:
    """`data` without its strings, in steps that are short. Raises TooManyError."""
    outside, quotes, backslash = [], 0, b""
    for start in range(0, len(data), _SLICE):
        chunk = backslash + data[start : start + _SLICE]
        stripped = chunk.rstrip(b"\\")
        odd = (len(chunk) - len(stripped)) % 2  # the last one escapes the first byte that follows
        backslash = b"\\" * odd
        parts = stripped.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        outside.append(b"".join(parts[quotes % 2 :: 2]))
        quotes += len(parts) - 1
        if quotes > 4 * _MAX_VALUES:  # two for a string value, two for its name
            raise TooManyError(f"more than {_MAX_VALUES} values")
    return b"".join(outside)


def refuse_many(data: bytes) -> bytes:
    """Raise TooManyError if `data` is beyond the limits above. Return it without its strings.

    A value is the first of its list or object, or comes after a comma.
    """
    outside = _outside_strings(data)
    starts = range(0, len(data), _SLICE)
    for limit, what, number in (
        (_MAX_VALUES, "values", sum(map(outside.count, (b",", b"[", b"{")))),
        (_MAX_ESCAPES, "escapes", sum(data.count(b"\\", n, n + _SLICE) for n in starts)),
    ):
        if number > limit:
            raise TooManyError(f"more than {limit} {what}")
    if 10 * (names := outside.count(b":")) > _MAX_NAMES:
        distinct: set[bytes] = set()
        for start in starts:
            short = _NAME.findall(data, start, start + _SLICE)
            distinct.update(short)
            names -= len(short)
        if len(distinct) + 10 * max(0, names) > _MAX_NAMES:  # the remaining names are long
            raise TooManyError(f"more than {_MAX_NAMES} different names of members")
    if b"0" * (_MAX_DIGITS + 1) in outside.translate(_ZEROS):
        raise TooManyError(f"a number of more than {_MAX_DIGITS} digits")
    return outside


def refuse_infinity(data: bytes, value: Any) -> None:
    """Raise ValueError if a number in `data` is too large for a double. `value` is its value."""
    zeros = data.translate(_ZEROS)
    large = b"0e000" in zeros or b"0e+000" in zeros or _MANY in zeros
    if large and _has_infinity(value):
        raise ValueError("number out of range")


def count_values(value: Any) -> int:
    """Return how many values a JSON value has, at most. Raises ValueError for infinity."""
    if isinstance(value, dict):
        return 1 + sum(map(count_values, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(count_values, value))
    if isinstance(value, float) and math.isinf(value):
        raise ValueError("number out of range")
    return 1


def _has_infinity(value: Any) -> bool:
    if isinstance(value, float):
        return math.isinf(value)
    if isinstance(value, dict):
        return any(map(_has_infinity, value.values()))
    return isinstance(value, list) and any(map(_has_infinity, value))
