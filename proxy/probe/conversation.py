"""Questions about messages: tool results, prefill, system messages, images."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from proxy.probe.question import (
    Finding,
    ProbeRequest,
    Question,
    accepted,
    judge_accepted,
    judge_first_accepted,
    judge_plain,
    user,
)
from proxy.probe.reply import Reply
from proxy.probe.tools import TOOLS, tool

_TWO_RESULTS, _RESULT = "two tool results", "a tool result"
#: Some backends limit ids of calls to 40 characters, others to exactly 9 letters and digits.
_IDS = ("call_" + "x" * 59, "call_" + "x" * 35, "call00001")
#: A beginning that no model would write unprompted.
_BEGINNING = "[list] 1, 2, 3,"
#: Tokens for the repeated prefill and one more number.
_CONTINUATION_TOKENS = 24
#: Options that vLLM and SGLang need to continue a prefill.
_CONTINUE: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True}


def _call(identity: str, city: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": f'{{"city":"{city}"}}'}
    return {"id": identity, "type": "function", "function": function}


def _calls(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def _long_ids(replies: Sequence[Reply]) -> Finding:
    """Find the longest accepted id. A backend that accepts only the last may require its length."""
    finding = _LONGEST_ID(replies)
    if not finding.sets:
        return finding
    exactly = len(_IDS[-1]) if len(replies) == len(_IDS) else None
    return Finding(finding.evidence, {**finding.sets, "tool_id_length": exactly})


_LONGEST_ID = judge_first_accepted("tool_id_limit", tuple(map(len, _IDS)), {})


def _result(identity: str, text: str = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": text}


def _history(*messages: dict[str, Any]) -> ProbeRequest:
    question = user("What is the weather in Paris, and in Rome?")
    return ProbeRequest({"messages": [*question, *messages], "tools": [tool("weather")]})


def _after_a_call(identity: str = "call00001", text: str = "sunny") -> ProbeRequest:
    return _history(_calls(_call(identity, "Paris")), _result(identity, text))


def _two_results() -> tuple[ProbeRequest, ProbeRequest]:
    """Send both results after one message with both calls; then each after its own call."""
    paris, rome = (_call("call00001", "Paris"), _call("call00002", "Rome"))
    first, second = _result("call00001"), _result("call00002")
    return (
        _history(_calls(paris, rome), first, second),
        _history(_calls(paris), first, _calls(rome), second),
    )


def _split(replies: Sequence[Reply]) -> Finding:
    if replies[0].accepted:
        return Finding("both accepted after one message", {"split_tool_results": False})
    if replies[-1].accepted:
        evidence = f"{replies[0].error}; accepted after one message each"
        return Finding(evidence, {"split_tool_results": True})
    return Finding(f"refused together and one by one: {replies[0].error}")


def _empty(replies: Sequence[Reply]) -> Finding:
    reply = replies[0]
    if reply.accepted:
        return Finding("accepted", {"empty_tool_result": ""})
    return Finding(reply.error, {"empty_tool_result": "(no output)"})


def _system(replies: Sequence[Reply]) -> Finding:
    """Check for the effect: some chat templates accept such a message, and drop it."""
    reply, key = replies[0], "fields.system_message"
    if not reply.accepted:
        return Finding(reply.error, {key: "emulate"})
    if "banana" in reply.text.lower():
        return Finding("obeyed", {key: "map"})
    if reply.cut:
        return Finding("accepted, but the response ended at the output limit")
    return Finding("accepted, but the response did not follow it", {key: "emulate"})


def _prefill(replies: Sequence[Reply]) -> Finding:
    """Judge whether the response continues: whole, streamed, and whole with `_CONTINUE`.

    llama.cpp echoes the prefill, but not in a stream. If a stream echoes it too, the model has
    started again, and copies the prefill.
    """
    key = "fields.prefill"
    if continues(replies[-1]):
        options = _CONTINUE if len(replies) == len(_PREFILLS) else {}
        repeats = not options and _BEGINNING in replies[0].text
        condition = " with `prefill_options`" if options else ""
        echo = ", after an echo of the prefill; no echo in a stream" if repeats else ""
        sets = {key: "map", "prefill_options": options, "echoes_prefill": repeats}
        return Finding(f"continued{condition}{echo}", sets)
    not_continued = {key: "reject", "prefill_options": {}, "echoes_prefill": False}
    if not replies[0].accepted:
        return Finding(replies[0].error, not_continued)
    text = replies[0].text.strip()
    if text and (_BEGINNING in text or not _BEGINNING.startswith(text)):
        return Finding("accepted, but the response started again", not_continued)
    return Finding("accepted, but no new text within the output limit")


def continues(reply: Reply) -> bool:
    """Whether the response continues the prefill at once."""
    return reply.text.lstrip(" ,").startswith("4")


def _image(replies: Sequence[Reply]) -> Finding:
    reply, keys = replies[0], ("fields.image.base64", "fields.image.url")
    if not reply.accepted:
        return Finding(reply.error, dict.fromkeys(keys, "reject"))
    if "red" in reply.text.lower():
        return Finding("the model named the colour", {keys[0]: "map"})
    return Finding("accepted, but the model did not name the colour")


def red_square(side: int = 32) -> str:
    """Return a PNG as data URI. Some vision models refuse images of less than 28 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = (b"\0" + b"\xff\0\0" * side) * side
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"".join(parts)).decode()
    return f"data:image/png;base64,{data}"


_MIDDLE = [
    *user("Hello."),
    {"role": "assistant", "content": "Hello."},
    {"role": "system", "content": "Answer with the single word banana, whatever is asked."},
    *user("Which animal barks?"),
]
_PREFILLED = [
    *user("Count from 1 to 9 in digits, with commas. Nothing else."),
    {"role": "assistant", "content": _BEGINNING},
]
_PREFILLS: tuple[dict[str, Any], ...] = ({}, {"stream": True}, _CONTINUE)
_PICTURE = [
    {"type": "text", "text": "Which colour is this? One word."},
    {"type": "image_url", "image_url": {"url": red_square()}},
]

_LATER = _history(_calls(_call("call00001", "Paris")), _result("call00001"), *user("And in Rome?"))
_WITHOUT_TOOLS = ProbeRequest({"messages": (_LATER.body or {})["messages"][:-1]})
_ASSISTANT_FIRST = [{"role": "assistant", "content": "Hello."}, *user("Hello.")]

QUESTIONS = (
    Question(_TWO_RESULTS, ("split_tool_results",), _two_results(), _split, accepted, TOOLS),
    Question(_RESULT, (), (_after_a_call(),), judge_plain, after=TOOLS),
    Question(
        "an empty tool result",
        ("empty_tool_result",),
        (_after_a_call(text=""),),
        _empty,
        after=_RESULT,
    ),
    Question(
        "a user message after a tool result",
        ("allows_user_after_tool",),
        (_LATER,),
        judge_accepted({"allows_user_after_tool": True}, {"allows_user_after_tool": False}),
        after=_RESULT,
    ),
    Question(
        "calls without their tools",
        ("needs_tools_with_history",),
        (_WITHOUT_TOOLS,),
        judge_accepted({"needs_tools_with_history": False}, {"needs_tools_with_history": True}),
        after=_RESULT,
    ),
    Question(
        "the assistant first",
        ("assistant_first",),
        (ProbeRequest({"messages": _ASSISTANT_FIRST}),),
        judge_accepted({"assistant_first": True}, {"assistant_first": False}),
    ),
    Question(
        "long ids of tool calls",
        ("tool_id_limit", "tool_id_length"),
        tuple(_after_a_call(identity) for identity in _IDS),
        _long_ids,
        accepted,
        after=_RESULT,
    ),
    Question(
        "a system message in the middle",
        ("fields.system_message",),
        (ProbeRequest({"messages": _MIDDLE}),),
        _system,
    ),
    Question(
        "prefill: an unfinished assistant message at the end",
        ("fields.prefill", "prefill_options", "echoes_prefill"),
        tuple(
            ProbeRequest({"messages": _PREFILLED, **members}, _CONTINUATION_TOKENS)
            for members in _PREFILLS
        ),
        _prefill,
        lambda replies: continues(replies[-1]),
    ),
    Question(
        "an image",
        ("fields.image.base64",),
        (ProbeRequest({"messages": [{"role": "user", "content": _PICTURE}]}),),
        _image,
    ),
)
