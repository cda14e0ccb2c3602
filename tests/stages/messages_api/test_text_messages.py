"""Plain messages are structured as by the general hooks."""

from __future__ import annotations

from typing import Any

import pytest
from cattrs.errors import BaseValidationError
from hypothesis import given
from hypothesis import strategies as st

from stages.messages_api.structuring import structure_part
from stages.messages_api.text_messages import text_message
from stages.messages_api.validation import message_problems
from stages.wire.json_codec import encode
from tests.stages.translation.fuzz_support import quick

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(0, 9), st.sampled_from(["", "a"]))
TEXTS = st.fixed_dictionaries({"type": st.just("text"), "text": SCALARS})
MEMBERS = ("text", "id", "name", "input", "tool_use_id", "content", "is_error", "thinking", "x")
KINDS = st.sampled_from(["text", "tool_use", "tool_result", "thinking", "image", 1])
VALUES = st.one_of(SCALARS, st.lists(TEXTS, max_size=2), st.dictionaries(st.just("a"), SCALARS))
BLOCKS = st.one_of(
    TEXTS,
    st.fixed_dictionaries({"type": KINDS}, optional=dict.fromkeys((*MEMBERS, "signature"), VALUES)),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": st.just("t"),
            "name": SCALARS,
            "input": st.dictionaries(st.just("a"), VALUES),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("tool_result"), "tool_use_id": st.just("t"), "content": VALUES},
        optional={"is_error": SCALARS},
    ),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": SCALARS, "signature": SCALARS}),
    SCALARS,
)
MESSAGES = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system", 1, None]),
        "content": SCALARS | st.lists(BLOCKS, max_size=3),
    },
    optional={"more": SCALARS},
)


@given(MESSAGES)
@quick
def test_a_plain_message_is_structured_as_by_the_hooks(value: dict[str, Any]) -> None:
    result = text_message(value)
    if result is None:
        return
    message, values = result
    try:
        part = structure_part("messages", value)
    except BaseValidationError as error:
        pytest.fail(f"the hooks refuse it: {error.exceptions}")
    assert part.value == message
    assert repr(part.value) == repr(message)  # 1 == True
    assert part.unknown_fields == ()
    assert not list(message_problems(message, ""))
    assert values >= sum(map(encode(value).count, (b"{", b"[", b",")))


def test_most_messages_are_plain() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "text", "is_error": False}
    assert text_message({"role": "user", "content": "text"})
    assert text_message({"role": "assistant", "content": [{"type": "text", "text": "a"}, call]})
    assert text_message({"role": "user", "content": [result]})
