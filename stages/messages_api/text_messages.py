"""Structures the messages that most bodies consist of, without the general hooks.

Their blocks are texts, thinking, tool calls, and results that are text. They have no member that
needs a check or a report. The result is that of `structuring`, in a fifth of the time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stages.messages_api import blocks as b
from stages.messages_api.request import Message
from stages.wire.json_codec import count_values

#: Values of a message that is one text; of others and of a block, without those inside it.
_TEXT_VALUES, _VALUES = 4, 6


def text_message(value: Any) -> tuple[Message, int] | None:
    """Return the message, which has no problem, and the greatest number of its JSON values.

    None: it needs the general hooks. Raises ValueError for a number that is too large for a double.
    """
    if type(value) is not dict or len(value) != 2:
        return None
    role: Any = value.get("role")
    content = value.get("content")
    readers = _READERS.get(role) if type(role) is str else None
    if readers is None or not content:
        return None
    if type(content) is str:
        return Message(role, (b.TextBlock(content),)), _TEXT_VALUES
    blocks = _blocks(content, readers)
    if blocks is None:
        return None
    values = _VALUES * (1 + len(blocks))
    for block in blocks:
        if type(block) is b.ToolUseBlock:
            values += count_values(block.input)
        elif type(block) is b.ToolResultBlock:
            values += _VALUES * len(block.content)
    return Message(role, blocks), values


def _blocks(values: Any, readers: _Readers) -> b.Content | None:
    """Structure a list of blocks; None, if one of them has no reader here, or needs more."""
    if type(values) is not list:
        return None
    blocks = []
    for value in values:
        kind = value.get("type") if type(value) is dict else None
        reader = readers.get(kind) if type(kind) is str else None
        block = reader(value) if reader else None
        if block is None:
            return None
        blocks.append(block)
    return tuple(blocks)


def _text(value: dict[str, Any]) -> b.TextBlock | None:
    text = value.get("text")
    return b.TextBlock(text) if len(value) == 2 and type(text) is str and text else None


def _thinking(value: dict[str, Any]) -> b.ThinkingBlock | None:
    thinking, signature = value.get("thinking"), value.get("signature")
    if len(value) != 3 or type(thinking) is not str or type(signature) is not str:
        return None
    return b.ThinkingBlock(thinking, signature)


def _tool_use(value: dict[str, Any]) -> b.ToolUseBlock | None:
    call_id, name, call_input = value.get("id"), value.get("name"), value.get("input")
    if len(value) != 4 or type(call_id) is not str or type(name) is not str:
        return None
    return b.ToolUseBlock(call_id, name, call_input) if type(call_input) is dict else None


def _tool_result(value: dict[str, Any]) -> b.ToolResultBlock | None:
    call_id, content = value.get("tool_use_id"), value.get("content")
    is_error = value.get("is_error", False)
    if len(value) != 3 + ("is_error" in value) or type(call_id) is not str:
        return None
    blocks = (b.TextBlock(content),) if type(content) is str else _blocks(content, _INSIDE)
    if not blocks or type(is_error) is not bool or content == "":
        return None
    return b.ToolResultBlock(call_id, blocks, is_error)


_Readers = dict[str, Callable[[dict[str, Any]], Any]]
_INSIDE: _Readers = {"text": _text}
_READERS: dict[str, _Readers] = {
    "user": {"text": _text, "tool_result": _tool_result},
    "assistant": {"text": _text, "thinking": _thinking, "tool_use": _tool_use},
}
