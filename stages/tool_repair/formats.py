"""The formats in which models write tool calls as text.

    marker                   followed by                                            models
    ----------------------   ----------------------------------------------------   ---------------
    <tool_call>              {"name": …, "arguments": {…}}</tool_call>              Hermes, Qwen
                             <function=NAME><parameter=KEY>                         Qwen3-Coder
                             VALUE</parameter></function></tool_call>
                             NAME<arg_key>KEY</arg_key>                             GLM 4.5
                             <arg_value>VALUE</arg_value></tool_call>
    <function=               NAME>{…}</function>, or parameters as above            Llama 3.1
    <|python_tag|>           {"name": …, "parameters": {…}}; {…}                    Llama 3
    [TOOL_CALLS]             [{"name": …, "arguments": {…}}, …]                     Mistral
                             NAME{…}, NAME[ARGS]{…}, NAME[CALL_ID]ID[ARGS]{…}       later Mistral
    <｜tool▁calls▁begin｜>   <｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME        DeepSeek V3, R1
                             ```json {…} ```<｜tool▁call▁end｜>
                             <｜tool▁call▁begin｜>NAME<｜tool▁sep｜>{…}             DeepSeek V3.1
                             <｜tool▁call▁end｜>; after the last <｜tool▁calls▁end｜>
    none                     {"name": …, "parameters": {…}} is all the text,        Llama 3.x
                             perhaps in a code fence

Source: the parsers of vLLM, SGLang and llama.cpp. A marker counts only before one of the
`prefixes` of a call: the name of a tool, or the text before the name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from attrs import frozen

from stages.chat_completions.json_values import as_object
from stages.tool_repair.arguments import JsonRepair, ends_as_json
from stages.wire.json_codec import decode_lenient, encode


@frozen
class FoundCall:
    """A call as the model wrote it: `arguments` is JSON.

    `is_repaired`: its JSON was broken. `is_bare`: it has no marker.
    """

    name: str
    arguments: str
    is_repaired: bool = False
    is_bare: bool = False


#: The calls of a text, and the text after them. None if the text is not in the format.
ParsedCalls = tuple[list[FoundCall], str] | None


@frozen
class Format:
    """One row of the table. It ends with `end`; if that is empty, with the text."""

    marker: str
    end: str
    prefixes: tuple[str, ...]
    parse: Callable[[str], ParsedCalls]


def formats(names: Iterable[str], repairs: JsonRepair) -> tuple[Format, ...]:
    """The formats, for tools of these names. The first format has no marker."""
    objects, tool_call = partial(_objects, repairs), partial(_tool_call, repairs)
    names = tuple(names)
    fences = ("", "```json", "```")
    kinds = ("", '"type":"function",')
    bare = (f'{a}{{{b}"name":"{name}"' for a in fences for b in kinds for name in names)
    functions = tuple(f"{name}>" for name in names)
    return (
        Format("", "", tuple(bare), partial(_bare, repairs)),
        Format("<tool_call>", "</tool_call>", ("{", "<function=", *names), tool_call),
        Format("<function=", "</function>", functions, _function),
        Format("<|python_tag|>", "", ("{",), objects),
        Format("[TOOL_CALLS]", "", ("[{", *names), partial(_mistral, repairs)),
        Format("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", (_BEGIN,), _deepseek),
    )


#: Text that occurs only within a call: here of an unknown tool.
INNER_MARKERS = ("<arg_key>", "<parameter=")
_BEGIN = "<｜tool▁call▁begin｜>"
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"(?:[\s;,]|</?tool_call>)*")  # also a tag whose partner is missing
_FENCE = re.compile(r"\s*+```(?:json)?+\s*+")
_FENCE_END = re.compile(r"\s*+(?:```\s*+)?+")
_MISTRAL = re.compile(
    r"\s*+(?:\[TOOL_CALLS\]\s*+)?+([\w.-]++)\s*+(?:\[CALL_ID\]\w++)?+(?:\[ARGS\])?+\s*+(?={)"
)
_OF_CALLS = {"name", "arguments", "parameters", "type", "id"}
_ENDS = ("<|eom_id|>", "<|eot_id|>")


def _objects(repairs: JsonRepair, text: str, bare: bool = False) -> ParsedCalls:
    """Parse calls as JSON objects, in sequence or in a list."""
    calls: list[FoundCall] = []
    at = _skip(_BETWEEN, text)
    while text[at : at + 1] in ("{", "["):
        value, end = _decode_at(text, at)
        repaired = end < 0
        if repaired:
            value = repairs.repair(text[at:]) if ends_as_json(text) else None
            end = len(text)
        for each in value if isinstance(value, list) else [value]:
            call = _call(as_object(each), repaired, bare)
            if call is None:
                return None
            calls.append(call)
        at = _skip(_BETWEEN, text, end)
    remaining = text[at:]
    for end_of_turn in _ENDS:
        remaining = remaining.removesuffix(end_of_turn)
    return (calls, remaining) if calls else None


def _decode_at(text: str, at: int) -> tuple[Any, int]:
    """The JSON value at a position, and its end; -1 if it is broken."""
    try:
        _, end = _DECODER.raw_decode(text, at)
        return decode_lenient(text[at:end].encode()), end
    except (ValueError, RecursionError):
        return None, -1


def _call(value: dict[str, Any], repaired: bool, bare: bool) -> FoundCall | None:
    """Read one object as a call, perhaps with a `function` as in Chat Completions."""
    function = value.get("function")
    value = function if isinstance(function, dict) else value
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters"))
    if not isinstance(name, str) or not isinstance(arguments, (str, dict, type(None))):
        return None
    if (bare or arguments is None) and value.keys() - _OF_CALLS:  # perhaps not a call
        return None
    encoded = arguments if isinstance(arguments, str) else encode(arguments or {}).decode()
    return FoundCall(name, encoded, repaired, bare)


def _bare(repairs: JsonRepair, text: str) -> ParsedCalls:
    read = _objects(repairs, text[_skip(_FENCE, text) :], bare=True)
    return None if read is None or not _FENCE_END.fullmatch(read[1]) else (read[0], "")


def _tool_call(repairs: JsonRepair, text: str) -> ParsedCalls:
    start = text.lstrip()
    if start.startswith("{"):
        return _objects(repairs, start)
    return _functions(start) if start.startswith("<function=") else _glm(start)


def _functions(text: str) -> ParsedCalls:
    calls = []
    while text.startswith("<function="):
        body, end, text = text.removeprefix("<function=").partition("</function>")
        read = _function(body) if end else None
        if read is None:
            return None
        calls += read[0]
        text = text.lstrip()
    return None if text else (calls, "")


def _function(text: str) -> ParsedCalls:
    name, _, body = text.partition(">")
    if body.lstrip().startswith("{"):
        return [FoundCall(name, body.strip())], ""
    parameters = _pairs(body, ("<parameter=", ">", "", "</parameter>"))
    return None if parameters is None else ([_typeless(name, parameters)], "")


def _glm(text: str) -> ParsedCalls:
    name, tag, body = text.partition("<arg_key>")
    parameters = _pairs(tag + body, ("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"))
    return None if parameters is None else ([_typeless(name.strip(), parameters)], "")


def _pairs(text: str, signs: tuple[str, str, str, str]) -> dict[str, str] | None:
    """Parse names and values, each between two of the signs, with only white space around them.

    If one sign separates them, as in Qwen3-Coder's template, a value is on lines of its own.
    """
    before, between, after, end = signs
    pairs = {}
    while text := text.lstrip():
        name, one, remaining = text.removeprefix(before).partition(between)
        remaining = remaining.lstrip().removeprefix(after) if after else remaining
        value, two, remaining = remaining.partition(end)
        if not (text.startswith(before) and one and two) or name.strip() in pairs:
            return None
        if before in value:  # the value is an example of a call
            return None
        pairs[name.strip()] = value if after else value.removeprefix("\n").removesuffix("\n")
        text = remaining
    return pairs


def _typeless(name: str, parameters: dict[str, str]) -> FoundCall:
    """A call whose values are all strings; the schema has their types."""
    return FoundCall(name, encode(parameters).decode())


def _mistral(repairs: JsonRepair, text: str) -> ParsedCalls:
    calls: list[FoundCall] = []
    if text.lstrip().startswith("["):
        return _objects(repairs, text)
    at = 0
    while match := _MISTRAL.match(text, at):
        _, end = _decode_at(text, match.end())
        end = len(text) if end < 0 else end
        calls.append(FoundCall(match[1], text[match.end() : end].strip()))
        at = _skip(_BETWEEN, text, end)
    return (calls, text[at:]) if calls else None


def _deepseek(text: str) -> ParsedCalls:
    calls = []
    while text := text.lstrip():
        call, end, remaining = text.removeprefix(_BEGIN).partition("<｜tool▁call▁end｜>")
        name, separator, arguments = call.partition("<｜tool▁sep｜>")
        if not (text.startswith(_BEGIN) and end and separator):
            return None
        if not arguments.lstrip().startswith("{"):
            name, _, arguments = arguments.partition("\n")
            arguments = arguments[_skip(_FENCE, arguments) :].rstrip().removesuffix("```")
        calls.append(FoundCall(name.strip(), arguments.strip()))
        text = remaining
    return calls, ""


def _skip(pattern: re.Pattern[str], text: str, at: int = 0) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
