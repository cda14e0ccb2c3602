"""Input of clients and backends is read in linear time by each expression and each parser.

The processor's time for one text and for one four times as long is compared: linear work takes
four times as long, quadratic work sixteen times. What is counted elsewhere is not here: schemas in
stages/tool_repair/test_validation_cost.py, error patterns in
stages/chat_completions/test_overflow_patterns.py, YAML in pipeline/config/test_document.py.
"""

from __future__ import annotations

import gc
import importlib
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from pipeline.config.parsing import parse
from pipeline.config.redaction import mask_unparsed
from stages.chat_completions.errors import error_from_status
from stages.chat_completions.json_nesting import JsonNesting
from stages.chat_completions.stop_sequences import StopScanner
from stages.chat_completions.think_tags import ThinkTags
from stages.recording.redaction import redacted_text
from stages.tool_repair.arguments import JsonRepair, repair_arguments
from stages.tool_repair.markdown_code import MarkdownCode
from stages.tool_repair.scanner import ToolCallScanner
from stages.translation.json_schema import is_closed, without
from stages.translation.response import ResponseTranslator
from stages.wire.json_codec import decode, decode_lenient, decode_prefix
from stages.wire.sse import SseDecoder
from tests.cases import for_each
from tests.stages.translation.support import call, calls, finish
from tests.support import chat_request

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.untraced
#: Linear work takes 4 times as long for 4 times as much, and a busy machine adds some.
MAX_GROWTH = 8
#: Seconds; what takes less is too short to measure, and no danger.
SHORT = 0.004


def seconds(work: Callable[[], object]) -> float:
    """The processor's time for `work`, the lesser of two."""
    times: list[float] = []
    gc.disable()
    try:
        while len(times) < 2 and sum(times) < 1:
            began = time.process_time()
            work()
            times.append(time.process_time() - began)
    finally:
        gc.enable()
    return min(times)


def growth(work: Callable[[int], Callable[[], object]], size: int) -> float:
    """The factor by which `work` takes longer for four times the input."""
    few, many = (seconds(work(n)) for n in (size, 4 * size))
    return many / max(few, SHORT)


# Expressions: those of all modules, each with texts of what it names


#: Those that are given only so much of a text.
BOUNDED = {
    "stages.backends.refused_options._REFUSING": "600 characters",
    "stages.validate._QUOTED": "a problem, in which a name has 80 characters",
}


Way = tuple[re.Pattern[Any], frozenset[str]]


def expressions() -> dict[str, Way]:
    """The expressions at the top of all modules, by their full name, and how each is used."""
    matches = {}
    for package in ("pipeline", "proxy", "stages"):
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text()
            if "re.compile" not in source:
                continue
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name, value in vars(importlib.import_module(module)).items():
                if isinstance(value, re.Pattern):
                    used = frozenset(re.findall(rf"\b{name}\.(\w+)\(", source))
                    matches[f"{module}.{name}"] = value, used or frozenset({"match"})
    return matches


def literals(parsed: Any) -> Iterator[str]:
    """The texts that an expression names, and one character of each of its sets."""
    run = ""
    for kind, argument in parsed:
        if kind is sre.LITERAL:
            run += chr(argument)
            continue
        yield run
        run = ""
        if kind is sre.IN:
            yield from map(one_of, argument)
        elif kind in (sre.ANY, sre.NOT_LITERAL):
            yield "~"
        elif isinstance(argument, (tuple, list)):
            for item in argument:
                inner = item if isinstance(item, list) else [item]
                for parts in inner:
                    if isinstance(parts, _parser.SubPattern):
                        yield from literals(parts)
    yield run


def one_of(member: tuple[Any, Any]) -> str:
    """One character of a member of a set."""
    kind, argument = member
    if kind is sre.LITERAL:
        return chr(argument)
    if kind is sre.RANGE:
        return chr(argument[0])
    if kind is sre.CATEGORY:
        named = {sre.CATEGORY_SPACE: " ", sre.CATEGORY_DIGIT: "1", sre.CATEGORY_WORD: "a"}
        return named.get(argument, "~")
    return "~"


def texts(pattern: re.Pattern[Any]) -> list[tuple[str, str]]:
    """Beginnings, and what may follow without end."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode()
    parsed = _parser.parse(source, pattern.flags & (re.VERBOSE | re.IGNORECASE))
    units = [*dict.fromkeys(filter(None, literals(parsed))), " "][:12]
    joined = ["".join(units[:n]) for n in range(3, len(units))]
    pairs = [a + b for a, b in product(units[:8], repeat=2)]
    return [*product(("", *units), units), *product([""], [*pairs, *joined])]


EXPRESSIONS = expressions()


def worst(pattern: re.Pattern[Any], used: frozenset[str]) -> float:
    """The growth of its time, the largest or the first that is too large."""
    anywhere = bool(used - {"match", "fullmatch"})

    def work(begin: str, unit: str, size: int) -> Callable[[], object]:
        text: Any = begin + unit * (size // len(unit)) + "\n!"
        text = text if isinstance(pattern.pattern, str) else text.encode()
        if anywhere:
            return lambda: deque(pattern.finditer(text), maxlen=0)
        return lambda: [getattr(pattern, method)(text) for method in used]

    matches = 0.0
    for begin, unit in texts(pattern):
        began = time.process_time()
        work(begin, unit, 4_000)()
        if matches < MAX_GROWTH and time.process_time() - began > SHORT / 4:
            matches = max(matches, growth(partial(work, begin, unit), 8_000))
    return matches


@for_each("name", sorted(EXPRESSIONS.keys() - BOUNDED.keys()))
def test_row_a2_each_expression_takes_linear_time(name: str) -> None:
    assert worst(*EXPRESSIONS[name]) < MAX_GROWTH


# Parsers: each with what is its worst


def fed(feed: Callable[[Any], object], text: Any, size: int) -> None:
    """Feed a text in pieces, and take what comes of each."""
    for at in range(0, len(text), size):
        result = feed(text[at : at + size])
        if isinstance(result, Iterator):
            deque(result, maxlen=0)


def repeated(read: Callable[[str], object], unit: str) -> Callable[[int], object]:
    """Read a text of `size` characters, the same again and again."""
    return lambda size: read(unit * (size // len(unit)))


def tool_text(text: str, size: int) -> None:
    """Look for tool calls in a text."""
    searched = ToolCallScanner(("get", "put"))
    fed(searched.feed, text, size)
    deque(searched.finish(whole=True), maxlen=0)


def refusal(message: Any) -> None:
    """Read an error of a backend."""
    error_from_status("local", 400, {}, json.dumps({"error": {"message": message}}).encode())


def passed(read: Callable[[Any], object], text: Any) -> None:
    """Read a text that may be refused."""
    with suppress(ValueError):
        read(text)


def two_calls(fragment: str, count: int) -> None:
    """A response whose first call is open while the second waits."""
    translator = ResponseTranslator(chat_request())
    translator.translate(calls(call("read", '{"x": ', index=0, id="a")))
    translator.translate(calls(call("read", '{"y": 1', index=1, id="b")))
    for _ in range(count):
        translator.translate(calls(call(arguments=fragment, index=0)))
    translator.translate(finish())
    translator.end(done=True)


FOUND = '<｜tool▁call▁begin｜>get<｜tool▁sep｜>{"a": 1}<｜tool▁call▁end｜>'
NAMES = [f"p{n}" for n in range(40_000)]

PARSERS: dict[str, Callable[[int], object]] = {
    **{
        f"tool calls: {unit!r}": repeated(lambda text: tool_text(text, 10**9), unit)
        for unit in (
            "<tool_call>",
            "[TOOL_CALLS]x",
            "<tool_call>get",
            "<function=get>",
            '<tool_call>{"</tool_call>',
            "```",
            "<",
            "{",
        )
    },
    "tool calls: spaces after a name": lambda n: tool_text("[TOOL_CALLS]get" + " " * n + "x", 7),
    "tool calls: ends in a string": lambda n: tool_text(
        '<tool_call>{"name": "get", "arguments": {"a": "' + "</tool_call>" * (n // 12), 10**9
    ),
    "tool calls: many in one": lambda n: tool_text(
        "<｜tool▁calls▁begin｜>" + FOUND * (n // len(FOUND)) + "<｜tool▁calls▁end｜>", 10**9
    ),
    "tool calls: parameters": lambda n: tool_text(
        "<function=get>" + "<parameter=a>\n1\n</parameter>" * (n // 27) + "</function>", 10**9
    ),
    "a repair: quotes": lambda n: JsonRepair().repair("{" + "'" * n + "}"),
    "a repair: words": lambda n: JsonRepair().repair("{a: " + "b c " * (n // 4) + "}"),
    "a repair: lists": lambda n: JsonRepair().repair('{"a": [' + "],[1,2" * (n // 6) + "}"),
    "arguments: an escape in each": lambda n: repair_arguments(
        '{"a": "' + "\\ud83d" * (n // 6) + '"}', {}
    ),
    "code: backticks": lambda n: fed(MarkdownCode().feed, "`" * n, 3),
    "code: fences": lambda n: fed(MarkdownCode().feed, "~~~\n" * (n // 4), 3),
    "nesting: escapes": lambda n: fed(JsonNesting().feed, "\\" * n, 1),
    "think tags: spaces": lambda n: fed(ThinkTags().feed, " " * n, 5),
    "think tags: half of the end": lambda n: fed(
        ThinkTags().feed, "<think>" + "</thin" * (n // 6), 5
    ),
    "think tags: all at once": lambda n: fed(ThinkTags().feed, "<think>" + "</thin" * n, 10**9),
    "stop sequences: the longest": lambda n: fed(
        StopScanner(("a" * 9_999 + "b",)).feed, "a" * n, 50
    ),
    "stop sequences: many": lambda n: fed(
        StopScanner(tuple("a" * k + "b" for k in range(100))).feed, "a" * n, 50
    ),
    "two calls: ends": lambda n: two_calls("}", n // 20),
    "two calls: objects": lambda n: two_calls("{}", n // 20),
    "two calls: digits": lambda n: two_calls("1", n // 20),
    "events: one line in pieces": lambda n: fed(SseDecoder().feed, b"data: " + b"a" * n, 5),
    "events: one event of many lines": lambda n: fed(SseDecoder().feed, b"data: a\n" * (n // 8), 7),
    "JSON: half pairs": lambda n: passed(decode_lenient, b'["' + b"\\ud83d" * (n // 6)),
    "JSON: brackets": lambda n: passed(decode, b"[" * n),
    "JSON: large numbers": lambda n: passed(decode, b"[" + b"1e999," * (n // 6) + b"1]"),
    "JSON: cut": lambda n: decode_prefix('{"a": [' + '{"b": 1},' * (n // 9)),
    "a refusal: a phrase": lambda n: refusal("maximum context length is 1 tokens " * (n // 35)),
    "a refusal: keys": lambda n: refusal("key: sk- " * (n // 9)),
    "a refusal: problems": lambda n: refusal([{"loc": ["a"] * 9, "msg": "b"}] * (n // 60)),
    "a refusal: within itself": lambda n: refusal(json.dumps({"error": "{" * n})),
    "a schema: names": lambda n: is_closed(
        {
            "properties": dict.fromkeys(NAMES[: n // 2], True),
            "required": NAMES[: n // 2],
            "additionalProperties": False,
        }
    ),
    "a schema: keywords": lambda n: without({"a": [{"title": "b"}] * (n // 10)}, frozenset("ab")),
    "a config: variables": lambda n: parse("a: '" + "${a:-" * (n // 5) + "'", {}),
    "a config: brackets in a text": lambda n: parse("a: '" + "${" * (n // 2) + "'", {}),
    **{
        f"redaction: {unit!r}": repeated(redacted_text, unit)
        for unit in ("token: a1\n", "a@b.", "sk-a1-", "-----BEGIN PRIVATE KEY-----x", "://a:")
    },
    **{
        f"keys of a config: {unit!r}": repeated(lambda text: mask_unparsed("? a" + text), unit)
        for unit in ("://", "://a:", "key: {${", "? a ", "\n", "#", " ", "? a\n", "?key")
    },
}


@for_each("name", PARSERS)
def test_row_a2_each_parser_takes_linear_time(name: str) -> None:
    assert growth(lambda size: lambda: PARSERS[name](size), 10_000) < MAX_GROWTH
