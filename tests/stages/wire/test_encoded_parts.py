"""A body has the same bytes with and without the JSON of its parts."""

from __future__ import annotations

from typing import Any

from stages.wire.encoded_parts import NOT_ENCODED, EncodedParts, encode_body
from stages.wire.json_codec import encode
from tests.cases import for_each

MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": f"number {n}"} for n in range(4)]
TOOLS: list[dict[str, Any]] = [{"type": "function", "function": {"name": "f"}}]
JSON = [encode(message) for message in MESSAGES]
CHUNKS = (JSON[0], b",".join(JSON[1:3]))
ENCODED = EncodedParts(MESSAGES[:3], CHUNKS, tools=TOOLS, tools_json=encode(TOOLS))

BODIES = {
    "all parts": {"messages": MESSAGES, "tools": TOOLS},
    "no further message": {"messages": MESSAGES[:3]},
    "fewer messages": {"messages": MESSAGES[:2]},
    "no messages": {"model": "m"},
    "a message that was replaced": {"messages": [MESSAGES[0], {"role": "user"}, *MESSAGES[2:]]},
    "tools that were replaced": {"messages": MESSAGES, "tools": [{"type": "function"}]},
    "a number of more than 64 bits": {"messages": MESSAGES, "tools": TOOLS, "seed": 2**70},
}


@for_each("body", BODIES.values(), BODIES)
def test_a_body_is_encoded_as_without_its_parts(body: dict[str, Any]) -> None:
    assert encode_body(body, ENCODED) == encode_body(body, NOT_ENCODED) == encode(body)


def test_equal_messages_are_not_the_same() -> None:
    encoded = EncodedParts([{"role": "user", "content": 1}], (b"{}",))
    body = {"messages": [{"role": "user", "content": True}]}
    assert encode_body(body, encoded) == encode(body)


def test_the_json_of_the_parts_is_used() -> None:
    body = {"messages": MESSAGES, "tools": TOOLS}
    encoded = EncodedParts(MESSAGES[:3], (b"1", b"2"), tools=TOOLS, tools_json=b"3")
    assert encode_body(body, encoded) == b'{"messages":[1,2,%b],"tools":3}' % JSON[3]
