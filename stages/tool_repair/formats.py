"""The formats in which models write tool calls as text, where nobody reads them.

    marker                   what follows it                                        models
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

As the parsers of vLLM, SGLang and llama.cpp read them. A marker counts only where `heads` says
that a call may follow: the name of a tool, or what stands before one.
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
from stages.wire.json_codec import decode_answer, encode


@frozen
class FoundCall:
    """A call as the model wrote it: `arguments` is JSON.

    `mended`: some of it was guessed. `bare`: nothing but its form says that it is one.
    """

    name: str
    arguments: str
    is_repaired: bool = False
    is_bare: bool = False


#: The calls of a text, and what of it stands behind them. None where it is not of the format.
ParsedCalls = tuple[list[FoundCall], str] | None


@frozen
class Format:
    """One row of the table. It ends with `end`; where that is empty, with the text."""

    marker: str
    end: str
    prefixes: tuple[str, ...]
    parse: Callable[[str], ParsedCalls]


def formats(names: Iterable[str], repairs: JsonRepair) -> tuple[Format, ...]:
    """The formats, for tools of these names; the first one has no marker."""
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


#: What stands only within a call: one of a tool that there is not.
INNER_MARKERS = ("<arg_key>", "<parameter=")
_BEGIN = "<｜tool▁call▁begin｜>"
_DECODER = json.JSONDecoder()
_BETWEEN = re.compile(r"(?:[\s;,]|</?tool_call>)*")  # a tag too, where another one is missing
_FENCE = re.compile(r"\s*+```(?:json)?+\s*+")
_FENCE_END = re.compile(r"\s*+(?:```\s*+)?+")
_MISTRAL = re.compile(
    r"\s*+(?:\[TOOL_CALLS\]\s*+)?+([\w.-]++)\s*+(?:\[CALL_ID\]\w++)?+(?:\[ARGS\])?+\s*+(?={)"
)
_OF_CALLS = {"name", "arguments", "parameters", "type", "id"}
_ENDS = ("<|eom_id|>", "<|eot_id|>")


def _objects(repairs: JsonRepair, text: str, bare: bool = False) -> ParsedCalls:
    """Calls as JSON objects, in a row or in a list."""
    calls: list[FoundCall] = []
    at = _skip(_BETWEEN, text)
    while text[at : at + 1] in ("{", "["):
        value, end = _decode_at(text, at)
        mended = end < 0
        if mended:
            value = repairs.repair(text[at:]) if ends_as_json(text) else None
            end = len(text)
        for each in value if isinstance(value, list) else [value]:
            call = _call(as_object(each), mended, bare)
            if call is None:
                return None
            calls.append(call)
        at = _skip(_BETWEEN, text, end)
    rest = text[at:]
    for end_of_turn in _ENDS:
        rest = rest.removesuffix(end_of_turn)
    return (calls, rest) if calls else None


def _decode_at(text: str, at: int) -> tuple[Any, int]:
    """The JSON value that begins there, and where it ends; -1 where it is broken."""
    try:
        _, end = _DECODER.raw_decode(text, at)
        return decode_answer(text[at:end].encode()), end
    except (ValueError, RecursionError):
        return None, -1


def _call(value: dict[str, Any], mended: bool, bare: bool) -> FoundCall | None:
    """One object as a call; that of Chat Completions has it all in `function`."""
    function = value.get("function")
    value = function if isinstance(function, dict) else value
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters"))
    if not isinstance(name, str) or not isinstance(arguments, (str, dict, type(None))):
        return None
    if (bare or arguments is None) and value.keys() - _OF_CALLS:  # it may be something else
        return None
    given = arguments if isinstance(arguments, str) else encode(arguments or {}).decode()
    return FoundCall(name, given, mended, bare)


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
    """Names and values, each between two of the signs, and nothing else but white space.

    Where one sign parts them, as in Qwen3-Coder's template, a value stands on lines of its own.
    """
    before, between, behind, end = signs
    found = {}
    while text := text.lstrip():
        name, one, rest = text.removeprefix(before).partition(between)
        rest = rest.lstrip().removeprefix(behind) if behind else rest
        value, two, rest = rest.partition(end)
        if not (text.startswith(before) and one and two) or name.strip() in found:
            return None
        if before in value:  # an example of a call, whose end is not the value's
            return None
        found[name.strip()] = value if behind else value.removeprefix("\n").removesuffix("\n")
        text = rest
    return found


def _typeless(name: str, parameters: dict[str, str]) -> FoundCall:
    """A call whose values are all text; what type they are of is in the schema."""
    return FoundCall(name, encode(parameters).decode())


def _mistral(repairs: JsonRepair, text: str) -> ParsedCalls:
    calls: list[FoundCall] = []
    if text.lstrip().startswith("["):
        return _objects(repairs, text)
    at = 0
    while found := _MISTRAL.match(text, at):
        _, end = _decode_at(text, found.end())
        end = len(text) if end < 0 else end
        calls.append(FoundCall(found[1], text[found.end() : end].strip()))
        at = _skip(_BETWEEN, text, end)
    return (calls, text[at:]) if calls else None


def _deepseek(text: str) -> ParsedCalls:
    calls = []
    while text := text.lstrip():
        call, end, rest = text.removeprefix(_BEGIN).partition("<｜tool▁call▁end｜>")
        name, separator, arguments = call.partition("<｜tool▁sep｜>")
        if not (text.startswith(_BEGIN) and end and separator):
            return None
        if not arguments.lstrip().startswith("{"):
            name, _, arguments = arguments.partition("\n")
            arguments = arguments[_skip(_FENCE, arguments) :].rstrip().removesuffix("```")
        calls.append(FoundCall(name.strip(), arguments.strip()))
        text = rest
    return calls, ""


def _skip(pattern: re.Pattern[str], text: str, at: int = 0) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at
