"""Arguments of a tool call that are not one JSON object."""

from __future__ import annotations

import json
from typing import Any

from stages.wire import json_codec as wire_json

#: A JSON string may hold another one: Granite encodes arguments twice.
_MAX_ENCODINGS = 4


def repeats_document(text: str, document: str) -> bool:
    """Whether `text` is only repetitions of the JSON in `document`, at least one."""
    decoder, text = json.JSONDecoder(), text.rstrip()
    try:
        expected, end = json.loads(document), 0
        while end < len(text):
            value, end = decoder.raw_decode(text, _after_spaces(text, end))
            if value != expected:
                return False
    except (ValueError, RecursionError):
        return False
    return True


def _after_spaces(text: str, start: int) -> int:
    while text[start].isspace():
        start += 1
    return start


def object_fragments(arguments: str) -> list[str]:
    """Fragments of one JSON object that carries `arguments`: clients require an object.

    A JSON string that contains an object becomes that object. Anything else becomes the member
    `_raw`. Empty arguments and `null` give no fragments.
    """
    text = arguments
    for _ in range(_MAX_ENCODINGS):
        if text.strip() in ("", "null"):
            return []
        value = _decode(text)
        if isinstance(value, dict):
            return [text.strip()]
        if not isinstance(value, str):
            break
        text = value
    return [wire_json.encode({"_raw": arguments}).decode()]


def _decode(text: str) -> Any:
    try:
        return wire_json.decode_lenient(text.encode())
    except ValueError:
        return None
