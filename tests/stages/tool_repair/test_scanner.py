"""Tool calls in a text: the formats, and the result for any split of the text."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.tool_repair.scanner import FoundCalls, ToolCallScanner
from tests.cases import for_each
from tests.stages.translation.support import pieces

TOOLS = ("get_weather", "get")
PARIS = ("get_weather", {"city": "Paris"})
ROME = ("get_weather", {"city": "Rome"})

Piece = str | tuple[str, Any]


def decoded(arguments: str) -> Any:
    """What they say; broken ones as they are, because they are not looked at here."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def scan(parts: list[str], whole: bool = True) -> list[Piece]:
    """Text, joined, and calls, as they come; what follows a call is text."""
    text = ToolCallScanner(TOOLS)
    out: list[Piece] = [""]

    def add(piece: str | FoundCalls) -> None:
        calls = piece.calls if isinstance(piece, FoundCalls) else ()
        out.extend((call.name, decoded(call.arguments)) for call in calls)
        more = piece.text_after if isinstance(piece, FoundCalls) else piece
        if more and isinstance(out[-1], str):
            out[-1] += more
        elif more:
            out.append(more)

    for part in parts:
        for item in text.feed(part):
            add(item)
    for item in text.finish(whole):
        add(item)
    return out if out[0] else out[1:]


ARGUMENTS = '{"city": "Paris"}'
HERMES = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
HERMES_LINE = HERMES.replace("\n", "")
ARGS_FIRST = '<tool_call>{"arguments": {"city": "Paris"}, "name": "get_weather"}</tool_call>'
QWEN = (
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n"
    "</function>\n</tool_call>"
)
GLM = "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n</tool_call>"
LLAMA = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
MISTRAL = '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}'
V3 = (
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
    '{"city": "Paris"}\n```<｜tool▁call▁end｜>'
)
V31 = '<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Rome"}<｜tool▁call▁end｜>'

FORMATS: dict[str, tuple[str, list[Piece]]] = {
    "hermes": (HERMES, [PARIS]),
    "hermes, arguments first": (ARGS_FIRST, [PARIS]),
    "hermes, with the form of Chat Completions": (
        '<tool_call>{"type": "function", "function": {"name": "get_weather", "arguments": '
        + json.dumps(ARGUMENTS)
        + "}}</tool_call>",
        [PARIS],
    ),
    "hermes, without arguments": ('<tool_call>{"name": "get"}</tool_call>', [("get", {})]),
    "hermes, several": (f"{HERMES}\n{HERMES.replace('Paris', 'Rome')}", [PARIS, "\n", ROME]),
    "hermes, amid text": (
        f"First. {HERMES} Then {HERMES}!",
        ["First. ", PARIS, " Then ", PARIS, "!"],
    ),
    "hermes, with no end": (HERMES.removesuffix("</tool_call>"), [PARIS]),
    "hermes, with a brace too few": (HERMES.replace("}}", "}"), [PARIS]),
    "hermes, its end in a string": (
        HERMES.replace("Paris", '</tool_call>{\\"') + "x",
        [("get_weather", {"city": '</tool_call>{"'}), "x"],
    ),
    "hermes, with no end amid others": (
        HERMES.removesuffix("</tool_call>") + HERMES.replace("Paris", "Rome") + ".",
        [PARIS, ROME, "."],
    ),
    "hermes, with no end, and text": (HERMES.replace("</tool_call>", "So."), [PARIS, "So."]),
    "hermes, many ends in a string": (
        HERMES.replace("Paris", "</tool_call>" * 20) + HERMES,
        [("get_weather", {"city": "</tool_call>" * 20}), PARIS],
    ),
    "hermes, after code": (
        f"`a` ``b`c`` ```d```\n````md\n```x\n~~~\n````\n- ~~~\n```\n~~~\nSo: {HERMES}",
        ["`a` ``b`c`` ```d```\n````md\n```x\n~~~\n````\n- ~~~\n```\n~~~\nSo: ", PARIS],
    ),
    "hermes, after JSON that is no call": (
        f'<tool_call>{{"name": "get", "city": "</tool_call>"}}</tool_call>{HERMES}',
        ['<tool_call>{"name": "get", "city": "</tool_call>"}</tool_call>', PARIS],
    ),
    "qwen3-coder": (QWEN, [PARIS]),
    "qwen3-coder, two functions": (
        QWEN.replace("</function>", "</function>\n<function=get></function>"),
        [PARIS, ("get", {})],
    ),
    "qwen3-coder, white space of a value": (
        QWEN.replace("Paris", "  a <b>\n\n"),
        [("get_weather", {"city": "  a <b>\n\n"})],
    ),
    "glm": (GLM, [PARIS]),
    "glm, white space of a value": (
        GLM.replace("Paris", "\n  a\n"),
        [("get_weather", {"city": "\n  a\n"})],
    ),
    "glm, no parameters": ("<tool_call>get\n</tool_call>", [("get", {})]),
    "llama 3.1": ('<function=get_weather>{"city": "Paris"}</function>', [PARIS]),
    "llama 3.1, no end": ('<function=get_weather>{"city": "Paris"}', [PARIS]),
    "llama 3.1, its end in a string": (
        '<function=get_weather>{"city": "</function>"}</function>!',
        [("get_weather", {"city": "</function>"}), "!"],
    ),
    "llama with its tag": (f"<|python_tag|>{LLAMA}; {LLAMA}<|eom_id|>", [PARIS, PARIS]),
    "llama, all the text": (f" \n{LLAMA}\n", [PARIS]),
    "llama, two objects": (f"{LLAMA};\n{LLAMA}", [PARIS, PARIS]),
    "llama, in a fence": (f"```json\n{LLAMA}\n```", [PARIS]),
    "llama, with a type": (LLAMA.replace("{", '{"type": "function", ', 1), [PARIS]),
    "mistral": (
        f"Well. {MISTRAL}, {MISTRAL[14:].replace('Paris', 'Rome')}]",
        ["Well. ", PARIS, ROME],
    ),
    "mistral, and text": (f"{MISTRAL}] Done.", [PARIS, "Done."]),
    "mistral, with an id": ("[TOOL_CALLS]get[CALL_ID]123456789[ARGS]{}", [("get", {})]),
    "mistral, later": (
        '[TOOL_CALLS]get_weather{"city": "Paris"}[TOOL_CALLS]get_weather[ARGS]{"city": "Rome"}',
        [PARIS, ROME],
    ),
    "deepseek": (
        f"Hm.<｜tool▁calls▁begin｜>{V3}\n{V31}<｜tool▁calls▁end｜>.",
        ["Hm.", PARIS, ROME, "."],
    ),
}


@for_each(("text", "expected"), FORMATS.values(), ids=FORMATS)
@for_each("size", [1, 2, 3, 7, 1000])
def test_calls_are_found_in_each_format(size: int, text: str, expected: list[Piece]) -> None:
    assert scan(pieces(text, size)) == expected


TEXTS = {
    "plain": "Hello <b>there</b> [1] {2}",
    "a tool that is not there": HERMES.replace("get_weather", "rm"),
    "one of two that is not there": f"{MISTRAL}, {MISTRAL[14:].replace('get_weather', 'rm')}]",
    "bare, a tool that is not there": LLAMA.replace("get_weather", "rm"),
    "bare, and text after it": f"{LLAMA} is what I would send.",
    "bare, and text before it": f"So: {LLAMA}",
    "bare, without end": LLAMA[:-3],
    "JSON that is no call": '{"name": "Anna", "parameters": {}}',
    "in a code block": f"Write:\n```xml\n{HERMES}\n```\nas this.",
    "in a line of code": f"Write `{HERMES}`.",
    "in a line of code, after other words": f"Write `so: {HERMES_LINE}`.",
    "in a line of code that has a tick": f"Write ``a ` {HERMES_LINE}``.",
    "in a block within a block": f"````md\n```xml\n{HERMES}\n```\n{HERMES}\n````\n",
    "in a block with waves": f"So:\n> ~~~xml\n> {HERMES}\n> ~~~",
    "in a block, after words about one": f"Use ``` so:\n```xml\n{HERMES}\n```",
    "a word about it": "The tag <tool_call> begins a call, </tool_call> ends it; <function=…> too.",
    "no call between the tags": "<tool_call>{}</tool_call>",
    "no JSON between the tags": "<tool_call>{oh dear!}</tool_call>",
    "no arguments": HERMES.replace('{"city": "Paris"}', "5"),
    "parameters and words": QWEN.replace("</parameter>", "</parameter> or so"),
    "a parameter without end": QWEN.replace("</parameter>", ""),
    "a parameter twice": QWEN.replace("Paris\n", "a</parameter>\n<parameter=city>\nb"),
    "arguments elsewhere": '<tool_call>{"name": "get", "city": "Paris"}</tool_call>',
    "glm, without end": GLM.replace("</arg_value>", ""),
    "deepseek, without a name": f"<｜tool▁calls▁begin｜>{V3.replace('<｜tool▁sep｜>', '')}",
    "deepseek, no call": "<｜tool▁calls▁begin｜> <｜tool▁calls▁end｜>",
    "words after broken JSON": '<|python_tag|>{"name": "get", "parameters": {"a": 1} and so on',
    "half a marker": "Well <tool_ca",
    "a marker": "Well <tool_call>",
    "a marker and white space": "<tool_call> \n ",
    "half a head": "<tool_call> <func",
    "white space": " \n ",
    "a string without end": HERMES.replace('Paris"', "Paris") + "Then",
    "deep": "<|python_tag|>" + '{"a":' * 10_000,
}


@for_each("text", TEXTS.values(), ids=TEXTS)
@for_each("size", [1, 3, 1000])
def test_other_text_than_calls_does_not_change(size: int, text: str) -> None:
    assert scan(pieces(text, size)) == [text]


def test_text_that_was_cut_is_no_call() -> None:
    for text in (LLAMA, HERMES.removesuffix("</tool_call>"), f"{MISTRAL}]"):
        assert scan([text], whole=False) == [text]
    assert scan([HERMES, HERMES[:30]], whole=False) == [PARIS, HERMES[:30]]


def test_text_flows_unless_it_may_become_a_call() -> None:
    text = ToolCallScanner(TOOLS)
    assert list(text.feed('{"name": "get')) == []
    assert list(text.feed('ter"')) == ['{"name": "getter"']
    assert list(text.feed("Now <to")) == ["Now "]
    assert list(text.feed("tal> <tool_call> ")) == ["<total> "]
    assert list(text.feed("is a tag")) == ["<tool_call>", " is a tag"]


def test_bare_json_counts_only_as_the_whole_response() -> None:
    text = ToolCallScanner(TOOLS)
    text.text_is_not_first()
    assert list(text.feed(LLAMA)) == [LLAMA]
    assert [type(item) for item in text.feed(HERMES)] == [FoundCalls]


@pytest.mark.untraced
def test_buffered_text_has_a_limit_and_takes_linear_time() -> None:
    began = time.process_time()
    for begin in ("<tool_call>{", "<tool_call>", "[TOOL_CALLS]get{", '{"name": "get", "a": "'):
        text = begin + "x " * 130_000
        buffered, out = 0, 0
        searched = ToolCallScanner(TOOLS)
        for part in pieces(text, 2):
            output = sum(len(item) for item in searched.feed(part) if isinstance(item, str))
            buffered, out = buffered + len(part) - output, out + output
            assert buffered <= 200_100
        assert out > len(text) - 10
    assert time.process_time() - began < 20  # 0.5 s; some quadratic thing would take minutes


@pytest.mark.untraced
@for_each(
    "text",
    [
        "<tool_call>" * 20_000,
        '<tool_call>{"</tool_call>' * 8_000,
        '<tool_call>{"a": "</tool_call>' * 6_000,
        "<function=get>" * 15_000,
        "```" * 60_000,
    ],
    ids=["no end", "ends in strings", "closed strings", "functions", "fences"],
)
def test_many_markers_take_time_by_their_number(text: str) -> None:
    began = time.process_time()
    assert scan(pieces(text, 3)) == [text]
    assert time.process_time() - began < 20


SNIPPETS = st.sampled_from(
    [text for text, _ in FORMATS.values()]
    + [text for text in TEXTS.values() if len(text) < 300]
    + '<tool_call>,</tool_call>,`,```,",{,},], ,\n,x,[TOOL_CALLS]'.split(",")
)


@given(st.lists(SNIPPETS | st.text(max_size=5), max_size=5), st.booleans(), st.data())
def test_it_does_not_matter_where_the_text_is_cut(
    parts: list[str], whole: bool, data: st.DataObject
) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    cut = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert scan(cut, whole) == scan([text], whole)


@given(st.text(st.characters(exclude_characters="<[{`")), st.integers(1, 5))
def test_text_without_a_marker_comes_out_as_it_is_and_at_once(text: str, size: int) -> None:
    searched = ToolCallScanner(TOOLS)
    out = [piece for part in pieces(text, size) for piece in searched.feed(part)]
    assert "".join(map(str, out)) == text or not text.strip()
