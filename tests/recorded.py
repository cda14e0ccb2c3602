"""The members of what the real API sends, as recorded; and a check of what we send against them.

The reference is the wire: clients with strict types (zod, serde, kotlinx) are written against it.
The official SDKs' types also allow null in members that the API leaves out.

Sources, named at each shape:

    cassettes   the recorded answers of api.anthropic.com in pydantic/pydantic-ai (August 2026):
                287 whole messages, 18 streams, 7 counts, 3 errors. In 401 recorded messages of
                several projects null occurs in `stop_sequence` and `stop_details`, and only there.
    reports     error bodies and events that users pasted into public issues
    reference   the API reference, where it says in words when a member is null
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

#: A shape is a type; a set of allowed values; a list with the shape of each item; an object's
#: members, each with its shape; or a tuple of alternatives. `?` after a member's name: it may be
#: left out. A member that has no name here must not be sent.
Shape = Any
TEXT, NUMBER, FLAG, OBJECT, NULL = str, int, bool, dict, type(None)

#: cassettes: in each message but one, and in each `message_start`.
_CACHE_CREATION = {"ephemeral_5m_input_tokens": NUMBER, "ephemeral_1h_input_tokens": NUMBER}
_COUNTS = {
    "input_tokens": NUMBER,
    "output_tokens": NUMBER,
    "cache_creation_input_tokens": NUMBER,
    "cache_read_input_tokens": NUMBER,
}
#: cassettes: in the newest ones (59 of 287 messages, 3 of 18 `message_delta`, no `message_start`).
_DETAILS = {"output_tokens_details?": {"thinking_tokens": NUMBER}}
#: cassettes: `inference_geo` in 205 of 287, always text. `server_tool_use` only after server tools.
_USAGE = {
    **_COUNTS,
    "cache_creation": _CACHE_CREATION,
    "service_tier": {"standard", "priority", "batch"},
    "inference_geo?": TEXT,
}

#: cassettes: `caller` in 59 of 116, `{"type": "direct"}` in each. reference: `toolset_name` is in
#: the calls of toolsets.
_TOOL_USE = {
    "type": {"tool_use"},
    "id": TEXT,
    "name": TEXT,
    "input": OBJECT,
    "caller?": {"type": {"direct"}},
    "toolset_name?": TEXT,
}
#: cassettes: `citations` only where there are some (50 of 360, a list in each); none are sent here.
_TEXT = {"type": {"text"}, "text": TEXT}
_THINKING = {"type": {"thinking"}, "thinking": TEXT, "signature": TEXT}
#: reports: BerriAI/litellm#9058.
_REDACTED = {"type": {"redacted_thinking"}, "data": TEXT}
_BLOCKS = (_TEXT, _THINKING, _REDACTED, _TOOL_USE)

#: reference: `category` is null "when the refusal doesn't map to a named category", and
#: `explanation` "when no explanation is available".
_REFUSAL = {"type": {"refusal"}, "category": (TEXT, NULL), "explanation": (TEXT, NULL)}
#: cassettes: `stop_sequence` in each, null in all but one; `stop_details` in 164 of 287, null.
_STOP = {
    "stop_reason": TEXT,
    "stop_sequence": (TEXT, NULL),
    "stop_details?": (_REFUSAL, NULL),
}
_MESSAGE = {
    "id": TEXT,
    "type": {"message"},
    "role": {"assistant"},
    "model": TEXT,
    "content": [_BLOCKS],
    **_STOP,
    "usage": {**_USAGE, **_DETAILS},
}
_STARTED = {
    **_MESSAGE,
    "content": [()],
    "stop_reason": NULL,
    "stop_sequence": NULL,
    "stop_details?": NULL,
    "usage": _USAGE,
}
_DELTAS = (
    {"type": {"text_delta"}, "text": TEXT},
    {"type": {"thinking_delta"}, "thinking": TEXT},
    {"type": {"signature_delta"}, "signature": TEXT},
    {"type": {"input_json_delta"}, "partial_json": TEXT},
)
#: reports: `details` is left out, null, or an object.
_ERROR = {
    "type": {"error"},
    "error": {"type": TEXT, "message": TEXT, "details?": (OBJECT, NULL)},
    "request_id": TEXT,
}
#: reports: the limits and `capabilities` are in the newer listings, a number and an object in each.
#: reference: `deprecated_at` and `retires_at` are null while a model is active, `line` is null
#: where it belongs to none.
_MODEL = {
    "type": {"model"},
    "id": TEXT,
    "display_name": TEXT,
    "created_at": TEXT,
    "max_input_tokens?": NUMBER,
    "max_tokens?": NUMBER,
    "capabilities?": OBJECT,
    "lifecycle?": {"active", "deprecated", "retired"},
    "deprecated_at?": (TEXT, NULL),
    "retires_at?": (TEXT, NULL),
    "line?": (TEXT, NULL),
}
#: reference: the ids are null on an empty page.
_PAGE = {"data": [_MODEL], "has_more": FLAG, "first_id": (TEXT, NULL), "last_id": (TEXT, NULL)}

#: All that is sent with a `type` of its own. cassettes: the streams.
_BY_TYPE: Mapping[str, Shape] = {
    "message": _MESSAGE,
    "error": _ERROR,
    "model": _MODEL,
    "ping": {"type": {"ping"}},
    "message_start": {"type": {"message_start"}, "message": _STARTED},
    "content_block_start": {
        "type": {"content_block_start"},
        "index": NUMBER,
        "content_block": _BLOCKS,
    },
    "content_block_delta": {"type": {"content_block_delta"}, "index": NUMBER, "delta": _DELTAS},
    "content_block_stop": {"type": {"content_block_stop"}, "index": NUMBER},
    "message_delta": {
        "type": {"message_delta"},
        "delta": _STOP,
        "usage": {**_COUNTS, **_DETAILS},
    },
    "message_stop": {"type": {"message_stop"}},
}


def unrecorded(value: Any) -> Iterator[str]:
    """Where a body or event differs from the recorded ones, as `path: what`."""
    if "type" in value:
        shape = _BY_TYPE.get(value["type"], ())
    else:
        shape = _PAGE if "data" in value else {"input_tokens": NUMBER}
    yield from _differences(value, shape, value.get("type", "body"))


def _differences(value: Any, shape: Shape, place: str) -> Iterator[str]:
    if isinstance(shape, tuple):
        matches = [list(_differences(value, item, place)) for item in shape]
        if all(matches):  # none of the alternatives fits
            yield from min(matches, key=len, default=[f"{place}: {value!r} is not sent"])
    elif isinstance(shape, dict) and isinstance(value, dict):
        yield from _members(value, shape, place)
    elif isinstance(shape, list) and isinstance(value, list):
        for n, item in enumerate(value):
            yield from _differences(item, shape[0], f"{place}.{n}")
    elif isinstance(shape, set):
        if value not in shape:
            yield f"{place}: {value!r} is not one of {sorted(shape)}"
    elif type(value) is not shape:
        yield f"{place}: {value!r} is of another type"


def _members(value: dict[str, Any], shape: dict[str, Shape], place: str) -> Iterator[str]:
    shapes = {name.removesuffix("?"): item for name, item in shape.items()}
    for name in value.keys() - shapes.keys():
        yield f"{place}.{name}: no recorded answer has it"
    for name, item in shapes.items():
        if name in value:
            yield from _differences(value[name], item, f"{place}.{name}")
        elif name in shape:
            yield f"{place}.{name}: missing"
