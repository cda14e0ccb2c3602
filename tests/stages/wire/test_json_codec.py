"""JSON: strict in, compact out."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.wire import json_codec
from tests.cases import for_each

quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**200), 2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)

REFUSED = {
    "nothing": b"",
    "white space": b" \n",
    "a duplicate key": b'{"a":1,"a":2}',
    "a duplicate key further in": b'[{"a":{"b":1,"c":2,"b":3}}]',
    "a duplicate key, escaped": b'{"a":1,"\\u0061":2}',
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":Infinity}',
    "-Infinity": b"[-Infinity]",
    "1e400": b"1e400",
    "1e400 in an object": b'{"a":{"b":1e400}}',
    "1e400 in a list": b"[0,[1E+400]]",
    "-1e400": b"[-1e400]",
    "1e999999999": b"[1e999999999]",
    "an exponent with zeros": b"[1e0000400]",
    "400 digits and a fraction": b"[" + b"1" * 400 + b".5]",
    "300 digits and an exponent of two": b"[-" + b"9" * 300 + b"e99]",
    "too many digits for an integer": b"9" * 5000,
    "210 levels of lists": b"[" * 210 + b"]" * 210,
    "210 levels of objects": b'{"a":' * 210 + b"1" + b"}" * 210,
    "a hundred thousand levels": b"[" * 100_000,
    "a lone surrogate": b'"\\ud800"',
    "half a pair": b'"\\ud83d!"',
    "a pair in the wrong order": b'"\\udc00\\ud800"',
    "a surrogate in UTF-8": b'"\xed\xa0\x80"',
    "invalid UTF-8": b'"\xff"',
    "UTF-8 that breaks off": b'"\xc3"',
    "overlong UTF-8": b'"\xc0\xaf"',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-32": '{"a":1}'.encode("utf-32"),
    "a byte order mark": b'\xef\xbb\xbf{"a":1}',
    "a NUL before": b"\x00{}",
    "a NUL after": b"{}\x00",
    "a NUL in a string": b'"\x00"',
    "a line break in a string": b'"a\nb"',
    "two documents": b"{}{}",
    "single quotes": b"{'a':1}",
    "a trailing comma": b'{"a":1,}',
    "a comment": b"{} // no",
    "a leading zero": b"01",
    "a plus": b"+1",
    "a number without an integer": b".5",
    "hexadecimal": b"0x10",
    "a bare word": b"yes",
    "Python": b"None",
    "an unclosed string": b'"a',
    "an unclosed list": b"[1",
    "a key that is no string": b"{1:2}",
}

TAKEN: dict[str, tuple[bytes, Any]] = {
    "white space around": (b' \r\n\t{"a" : 1 } \n', {"a": 1}),
    "the same key in two objects": (b'[{"a":1},{"a":2}]', [{"a": 1}, {"a": 2}]),
    "the largest double": (b"1.7976931348623157e308", 1.7976931348623157e308),
    "a number too small for a double": (b"1e-400", 0.0),
    "what only looks like an exponent": (b'["1e400", 2]', ["1e400", 2]),
    "a large integer": (b"[" + b"9" * 400 + b"]", [10**400 - 1]),
    "an integer as long as can be": (b"9" * 4300, 10**4300 - 1),
    "200 digits in a string": (b'["' + b"7" * 200 + b'", 1.5]', ["7" * 200, 1.5]),
    "a pair of surrogates": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "an escaped NUL": (b'"\\u0000"', "\x00"),
    "line separators": ('"\u2028\u2029\u0085"'.encode(), "\u2028\u2029\u0085"),
    "200 levels": (b"[" * 200 + b"]" * 200, None),
    "an empty key": (b'{"":1}', {"": 1}),
    "null": (b"null", None),
}


@for_each("data", REFUSED.values(), ids=REFUSED)
def test_text_that_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        json_codec.decode(data)


@for_each(("data", "value"), TAKEN.values(), ids=TAKEN)
def test_json_is_accepted(data: bytes, value: Any) -> None:
    decoded = json_codec.decode(data)
    if value is not None:
        assert decoded == value
    assert json_codec.decode(json_codec.encode(decoded)) == decoded


def test_an_error_says_where() -> None:
    with pytest.raises(ValueError, match="line 2 column 8"):
        json_codec.decode(b'{"a": 1,\n "b": nope}')


@given(VALUES)
@quick
def test_encoding_and_decoding_is_the_identity(value: Any) -> None:
    assert json_codec.decode(json_codec.encode(value)) == value


def test_json_is_written_compactly_in_utf8() -> None:
    assert json_codec.encode({"a": [1, "é", None, True]}) == '{"a":[1,"é",null,true]}'.encode()


def test_integers_of_more_than_64_bits_are_written_whole() -> None:
    value = {"number": 2**70, "text": "é\u2028", "list": [1.5, None, True]}
    assert json_codec.encode(value) == (
        '{"number":1180591620717411303424,"text":"é\u2028","list":[1.5,null,true]}'.encode()
    )


def test_deep_values_are_written_whole() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    assert json_codec.encode(deep) == b"[" * 300 + b"1" + b"]" * 300


def test_a_lone_surrogate_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        json_codec.encode({"a": "\ud800"})


def test_values_without_a_json_form_cannot_be_written() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        json_codec.encode({"a": object()})


PREFIXES: dict[str, tuple[str, Any]] = {
    "within a string": ('{"b": 1, "a": "some te', {"b": 1}),
    "within a key": ('{"a": 1, "b', {"a": 1}),
    "before a value": ('{"a": 1, "b":', {"a": 1}),
    "within a list": ('{"a": [1, 2', {"a": [1, 2]}),
    "within a word": ('{"a": [1, tr', {"a": [1]}),
    "within an escape": ('{"a": "x\\', {}),
    "within a unicode escape": ('{"a": "x\\u00', {}),
    "between two surrogates": ('{"a": "x\\ud83d', {}),
    "after the first brace": ("{", {}),
}


@for_each(("text", "value"), PREFIXES.values(), ids=PREFIXES)
def test_json_that_breaks_off_is_kept_up_to_there(text: str, value: Any) -> None:
    assert json_codec.decode_prefix(text) == value


@for_each("text", ["", "nope", "{'a'", '{"a": NaN}', '{"a": 1e400, "b"'])
def test_text_that_cannot_begin_json_is_no_prefix(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        json_codec.decode_prefix(text)


@given(VALUES.map(lambda value: json_codec.encode({"a": value}).decode()), st.integers(1))
@quick
def test_any_prefix_of_an_object_is_an_object_without_infinities(text: str, end: int) -> None:
    value = json_codec.decode_prefix(text[: end % len(text) + 1])
    assert isinstance(value, dict)
    assert not any(isinstance(item, float) and math.isinf(item) for item in value.values())


@for_each(
    ("data", "value"),
    [
        (rb'{"a":"x\ud83d"}', {"a": "x\ufffd"}),
        (rb'{"a":"\ude00y"}', {"a": "\ufffdy"}),
        (rb'{"a":"\ud83d\ude00"}', {"a": "\U0001f600"}),
        (rb'{"a":"\ud83d\ud83d\ude00"}', {"a": "\ufffd\U0001f600"}),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'{"a":[NaN]}', None),
    ],
)
def test_a_backends_json_need_not_be_strict(data: bytes, value: Any) -> None:
    matches = json_codec.decode_lenient(data)

    assert value is None or matches == value


def test_a_backends_broken_json_is_an_error() -> None:
    with pytest.raises(ValueError, match="EOF"):
        json_codec.decode_lenient(b'{"a')


MANY = {
    "numbers": b"[" + b"0," * 320_000 + b"0]",
    "lists": b"[" + b"[]," * 200_000 + b"0]",
    "objects": b"[" + b"{}," * 200_000 + b"0]",
    "texts": b'["' + b'","' * 700_000 + b'"]',
    "texts without end": b'"' * 1_300_000,
    "after escapes": b'[["\\\\",' + b"0," * 320_000 + b'"\\""]]',
}


@for_each("many", MANY.values(), ids=MANY)
def test_row_a7_too_many_values_are_refused(many: bytes) -> None:
    with pytest.raises(json_codec.TooManyError, match=r"^more than 320000 values$"):
        json_codec.decode(many)


def test_row_a7_100_000_messages_are_read() -> None:
    message = b'{"role":"user","content":"a"}'
    body = b'{"model":"m","max_tokens":1,"messages":[' + b",".join([message] * 100_000) + b"]}"
    assert len(json_codec.decode(body)["messages"]) == 100_000


OTHER_VALUES = {
    "names": (b"{" + b",".join(b'"name%d":0' % n for n in range(30_001)) + b"}", "30000 different"),
    "long names": (
        b"{" + b",".join(b'"%0150d":0' % n for n in range(3_001)) + b"}",
        "30000 different names of members",
    ),
    "escapes": (b'["' + b"\\n" * 2_000_001 + b'"]', "2000000 escapes"),
    "digits": (b"[" + b",".join([b"1" * 26] * 13_000) + b"]", "25 digits"),
}


@pytest.mark.parametrize(("data", "words"), OTHER_VALUES.values(), ids=OTHER_VALUES)
def test_row_a7_what_takes_a_parser_long_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(json_codec.TooManyError, match=f"^.*more than {words}"):
        json_codec.decode(data)


def test_names_that_are_repeated_are_no_different_names() -> None:
    assert len(json_codec.decode(b"[" + b",".join([b'{"a":0, "b" : 0}'] * 60_000) + b"]")) == 60_000


@pytest.mark.parametrize(
    "sign", [b",", b"[{", b'\\",', b"\\\\,"], ids=["comma", "open", "quote", "backslash"]
)
def test_the_inside_of_a_text_is_no_value(sign: bytes) -> None:
    data = b'{"text": "' + sign * 350_000 + b'"}'
    assert len(json_codec.decode(data)["text"]) >= 350_000


@for_each("before", range(12))
def test_a_text_may_go_on_in_the_next_piece_at_any_place(before: int) -> None:
    """Large bodies are looked at in pieces of 64 KiB."""
    start = b'["' + b"x" * (64 * 1024 - 2 - before) + b'\\\\\\", \\\\", 1e5, "'
    data = start + b"," * 330_000 + b'"]'
    first, number, last = json_codec.decode(data)
    assert first.endswith('\\", \\')
    assert (number, len(last)) == (1e5, 330_000)
    with pytest.raises(ValueError, match="number out of range"):
        json_codec.decode(data.replace(b"1e5", b"1e500"))


HIGH, LOW, BACKSLASHES = r"\ud83d", r"\uDE00", "\\" * 2
FRAGMENTS = st.lists(
    st.sampled_from([HIGH, LOW, HIGH + LOW, BACKSLASHES, r"\n", r"\u00e9", "ud83d", "x", '"'])
)


@given(FRAGMENTS)
@quick
def test_each_half_of_a_pair_is_replaced_and_nothing_else(fragments: list[str]) -> None:
    escapes = "".join(fragments)
    pairs = re.compile(r"\\\\|\\ud83d\\uDE00|(\\ud83d|\\uDE00)")
    expected = pairs.sub(lambda match: r"\ufffd" if match[1] else match[0], escapes)
    assert json_codec.repair_escapes(escapes) == expected


@given(FRAGMENTS, st.integers(0, 13))
@quick
def test_text_is_split_only_before_an_unfinished_escape(fragments: list[str], cut: int) -> None:
    text = "".join(fragments)
    text = text[: max(0, len(text) - cut)]
    start, end = json_codec.split_escape(text)
    assert start + end == text
    assert len(end) < len(HIGH + LOW)
    for remaining in (LOW, "x", ""):
        apart = json_codec.repair_escapes(start) + json_codec.repair_escapes(end + remaining)
        assert apart == json_codec.repair_escapes(text + remaining)


@pytest.mark.parametrize("unit", [BACKSLASHES, HIGH, LOW, HIGH + LOW])
def test_a_run_of_escapes_costs_one_match(unit: str) -> None:
    runs = list(json_codec._SURROGATES.finditer(unit * 10_000))
    assert len(runs) == 1
    assert runs[0].span() == (0, len(unit) * 10_000)


@pytest.mark.parametrize("text", ["plain", BACKSLASHES * 9, r"\n\u00e9 ud83d"])
def test_text_without_surrogates_is_returned_without_a_copy(text: str) -> None:
    assert json_codec.repair_escapes(text) is text
