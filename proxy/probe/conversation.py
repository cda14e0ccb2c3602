"""Questions about what may stand in the messages: results of tools, begun answers, images."""

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
#: Ids of calls have been seen limited to 40 characters, and to 9 letters and digits.
_IDS = ("call_" + "x" * 59, "call_" + "x" * 35, "call00001")
#: No model begins so by itself.
_BEGINNING = "[list] 1, 2, 3,"
#: Tokens for what was begun, repeated, and one number more.
_GOING_ON = 24
#: What vLLM and SGLang need to go on with a begun answer.
_CONTINUE: dict[str, Any] = {"add_generation_prompt": False, "continue_final_message": True}


def _call(identity: str, city: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": f'{{"city":"{city}"}}'}
    return {"id": identity, "type": "function", "function": function}


def _calls(*calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def _long_ids(replies: Sequence[Reply]) -> Finding:
    """The longest id that is taken. Who takes only the last one may want its length exactly."""
    finding = _LONGEST_ID(replies)
    if not finding.sets:
        return finding
    exactly = len(_IDS[-1]) if len(replies) == len(_IDS) else None
    return Finding(finding.evidence, {**finding.sets, "tool_id_length": exactly})


_LONGEST_ID = judge_first_accepted("tool_id_limit", tuple(map(len, _IDS)), {})


def _result(identity: str, text: str = "sunny") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identity, "content": text}


def _history(*messages: dict[str, Any]) -> ProbeRequest:
    asked = user("What is the weather in Paris, and in Rome?")
    return ProbeRequest({"messages": [*asked, *messages], "tools": [tool("weather")]})


def _after_a_call(identity: str = "call00001", text: str = "sunny") -> ProbeRequest:
    return _history(_calls(_call(identity, "Paris")), _result(identity, text))


def _two_results() -> tuple[ProbeRequest, ProbeRequest]:
    """Both results behind the message with both calls; each behind a message with its call."""
    paris, rome = (_call("call00001", "Paris"), _call("call00002", "Rome"))
    first, second = _result("call00001"), _result("call00002")
    return (
        _history(_calls(paris, rome), first, second),
        _history(_calls(paris), first, _calls(rome), second),
    )


def _split(replies: Sequence[Reply]) -> Finding:
    if replies[0].accepted:
        return Finding("both accepted behind one message", {"split_tool_results": False})
    if replies[-1].accepted:
        evidence = f"{replies[0].error}; accepted behind a message each"
        return Finding(evidence, {"split_tool_results": True})
    return Finding(f"refused together and one by one: {replies[0].error}")


def _empty(replies: Sequence[Reply]) -> Finding:
    reply = replies[0]
    if reply.accepted:
        return Finding("accepted", {"empty_tool_result": ""})
    return Finding(reply.error, {"empty_tool_result": "(no output)"})


def _system(replies: Sequence[Reply]) -> Finding:
    """Accepted is not enough: some chat templates take such a message, and leave it out."""
    reply, key = replies[0], "fields.system_message"
    if not reply.accepted:
        return Finding(reply.error, {key: "emulate"})
    if "banana" in reply.text.lower():
        return Finding("obeyed", {key: "map"})
    if reply.cut:
        return Finding("accepted, but the answer was cut")
    return Finding("accepted, but the answer did not follow it", {key: "emulate"})


def _prefill(replies: Sequence[Reply]) -> Finding:
    """Whether the answer goes on: whole, streamed, and whole with the options of `_CONTINUE`.

    llama.cpp repeats what was begun, but not in a stream. Where a stream repeats it too, the model
    has begun again, and copies what it sees.
    """
    key = "fields.prefill"
    if goes_on(replies[-1]):
        options = _CONTINUE if len(replies) == len(_PREFILLS) else {}
        repeats = not options and _BEGINNING in replies[0].text
        how = " with `prefill_options`" if options else ""
        again = ", after repeating what was begun; not in a stream" if repeats else ""
        sets = {key: "map", "prefill_options": options, "echoes_prefill": repeats}
        return Finding(f"continued{how}{again}", sets)
    anew = {key: "reject", "prefill_options": {}, "echoes_prefill": False}
    if not replies[0].accepted:
        return Finding(replies[0].error, anew)
    said = replies[0].text.strip()
    if said and (_BEGINNING in said or not _BEGINNING.startswith(said)):
        return Finding("accepted, but the answer began anew", anew)
    return Finding("accepted, but nothing new came within the limit")


def goes_on(reply: Reply) -> bool:
    """Whether the begun answer goes on at once."""
    return reply.text.lstrip(" ,").startswith("4")


def _image(replies: Sequence[Reply]) -> Finding:
    reply, keys = replies[0], ("fields.image.base64", "fields.image.url")
    if not reply.accepted:
        return Finding(reply.error, dict.fromkeys(keys, "reject"))
    if "red" in reply.text.lower():
        return Finding("seen: the model named the colour", {keys[0]: "map"})
    return Finding("accepted, but the model did not name the colour")


def red_square(side: int = 32) -> str:
    """A PNG as data URI. Some models with vision refuse images of less than 28 pixels."""

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
_BEGUN = [
    *user("Count from 1 to 9 in digits, with commas. Nothing else."),
    {"role": "assistant", "content": _BEGINNING},
]
_PREFILLS: tuple[dict[str, Any], ...] = ({}, {"stream": True}, _CONTINUE)
_PICTURE = [
    {"type": "text", "text": "Which colour is this? One word."},
    {"type": "image_url", "image_url": {"url": red_square()}},
]

_LATER = _history(_calls(_call("call00001", "Paris")), _result("call00001"), *user("And in Rome?"))
_UNDECLARED = ProbeRequest({"messages": (_LATER.body or {})["messages"][:-1]})
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
        (_UNDECLARED,),
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
        "a begun answer at the end",
        ("fields.prefill", "prefill_options", "echoes_prefill"),
        tuple(ProbeRequest({"messages": _BEGUN, **members}, _GOING_ON) for members in _PREFILLS),
        _prefill,
        lambda replies: goes_on(replies[-1]),
    ),
    Question(
        "an image",
        ("fields.image.base64",),
        (ProbeRequest({"messages": [{"role": "user", "content": _PICTURE}]}),),
        _image,
    ),
)
