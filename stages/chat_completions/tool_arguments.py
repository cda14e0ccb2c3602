"""The arguments of a call where they are not one JSON object."""

from __future__ import annotations

import json
from typing import Any

from stages.wire import json_codec as wire_json

#: A JSON string may hold another one: Granite encodes arguments twice.
_MAX_ENCODINGS = 4


def repeats_document(text: str, document: str) -> bool:
    """Whether `text` says nothing but `document` again, once or more often, as JSON."""
    decoder, text = json.JSONDecoder(), text.rstrip()
    try:
        wanted, end = json.loads(document), 0
        while end < len(text):
            value, end = decoder.raw_decode(text, _after_spaces(text, end))
            if value != wanted:
                return False
    except (ValueError, RecursionError):
        return False
    return True


def _after_spaces(text: str, start: int) -> int:
    while text[start].isspace():
        start += 1
    return start


def object_fragments(arguments: str) -> list[str]:
    """Arguments that are no object, as fragments of one: clients need an object, also streamed.

    A JSON string that holds an object is that object.
    """
    held = arguments
    for _ in range(_MAX_ENCODINGS):
        if held.strip() in ("", "null"):
            return []
        value = _decoded(held)
        if isinstance(value, dict):
            return [held.strip()]
        if not isinstance(value, str):
            break
        held = value
    return [wire_json.encode({"_raw": arguments}).decode()]


def _decoded(text: str) -> Any:
    try:
        return wire_json.decode_answer(text.encode())
    except ValueError:
        return None
