"""Read the parts of one Chat Completions chunk, in any of the places where backends put them.

`n` is never sent, so all choices belong to one response, in the order of their arrival. A choice
with a repeated index continues the earlier one. (Foundry Local counts the chunks in `index`;
GitHub Copilot sends the text in one choice and the tool calls in another.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import define

from stages.chat_completions.json_values import as_array, as_object, as_string

#: Members that hold reasoning as text. If there are two, both have the same text.
REASONING_MEMBERS = ("reasoning_content", "reasoning", "reasoning_text")
_CONTENT_MEMBERS = ("content", "tool_calls", "function_call", "refusal")


def plain_text_delta(data: dict[str, Any]) -> str:
    """The text of a chunk that contains nothing but text; empty for any other chunk.

    Nine chunks in ten are such. They need no further inspection.
    """
    try:
        (choice,) = data["choices"]
        delta = choice["delta"]
        text = delta["content"]
    except (KeyError, TypeError, ValueError):
        return ""
    alone = len(delta) == 1 or (len(delta) == 2 and "role" in delta)
    if type(text) is not str or not alone or choice.get("error"):
        return ""
    if choice.get("finish_reason") or choice.get("stop_reason"):
        return ""
    return "" if data.get("error") or data.get("usage") else text


def choices_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The choices of a chunk."""
    choices = data.get("choices")
    return [choice for choice in choices if type(choice) is dict] if type(choices) is list else []


def error_in_chunk(data: dict[str, Any], choices: list[dict[str, Any]]) -> Any:
    """The error in a chunk; None if there is none.

    It is the member `error` next to the choices, in a choice (OpenRouter) or in `x_groq`, or the
    chunk itself: `object: error` (FastChat, older vLLM), `type: error`, `error_code` (Databricks).
    """
    if data.get("error"):
        return data["error"]
    for choice in choices:
        if choice.get("error"):
            return choice["error"]
    if "x_groq" in data and (error := as_object(data["x_groq"]).get("error")):
        return error
    if "base_resp" in data and as_object(data["base_resp"]).get("status_code"):
        return data  # MiniMax
    if choices:
        return None
    is_error = data.get("object") == "error" or data.get("type") == "error"
    return data if is_error or data.get("error_code") else None


def reasoning_text(delta: dict[str, Any]) -> str:
    """The reasoning text of a delta, in any of its members."""
    for name in REASONING_MEMBERS:
        if name in delta and (text := as_string(delta[name])):
            return text
    if "reasoning_details" not in delta:
        return ""
    details = map(as_object, as_array(delta["reasoning_details"]))
    return "".join(as_string(d.get("text")) or as_string(d.get("summary")) for d in details)


_FAILURES = ("error_msg", "error_message")
_MESSAGES = ("message", "detail", "msg", *_FAILURES)
#: Some gateways report `{"code": 0, "msg": "success"}` with the usage.
_SUCCESS = (0, "0", 200, "200", "ok", "success")


def message_without_choices(data: dict[str, Any]) -> str | None:
    """The message of an object that is not a chunk, perhaps empty; None if it is a chunk."""
    succeeded = data.get("code") in _SUCCESS and not any(map(data.get, _FAILURES))
    texts = () if succeeded else (as_string(data.get(name)) for name in _MESSAGES)
    message = next(filter(None, texts), "")
    is_chunk = "choices" in data or "usage" in data or not data
    return message or (None if is_chunk else "")


@define
class DeltaReader:
    """Read the deltas, or the messages, of the choices of one response."""

    _has_content: bool = False
    _whole_calls: int = 0

    def delta(self, choice: dict[str, Any]) -> dict[str, Any]:
        """The delta of a choice. A message after deltas repeats them, so its delta is empty."""
        delta = as_object(choice.get("delta"))
        self._has_content = self._has_content or any(map(delta.get, _CONTENT_MEMBERS))
        return delta if delta or self._has_content else as_object(choice.get("message"))

    def tool_call_fragments(
        self, choice: dict[str, Any], delta: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """The fragments of tool calls in a delta. In a message each one is a whole call."""
        for call in as_array(delta.get("tool_calls")):
            fragment = as_object(call)
            if not choice.get("delta"):
                fragment = {**fragment, "index": self._whole_calls}
                self._whole_calls += 1
            yield fragment
        if legacy := as_object(delta.get("function_call")):
            yield {"index": 0, "function": legacy}
