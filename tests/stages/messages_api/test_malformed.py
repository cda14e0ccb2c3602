"""Bodies that are refused: each with the path of what is wrong, in the API's words."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api.errors import ApiError
from stages.validate import Validate
from stages.wire.json_codec import encode
from tests.cases import for_each
from tests.malformed import MALFORMED
from tests.support import body

LONG = "x" * 100_000
TOOL = {"name": "f", "input_schema": {"type": "object"}}


@for_each(
    ("data", "status", "kind", "start"),
    [row[1:] for row in MALFORMED],
    ids=[row[0] for row in MALFORMED],
)
def test_a_malformed_body_is_refused_with_its_reason(
    data: bytes, status: int, kind: str, start: str
) -> None:
    with pytest.raises(ApiError) as raised:
        Validate().parse(data)
    error = raised.value
    assert (error.status, error.type) == (status, kind)
    assert error.message.startswith(start)
    assert "\n" not in error.message
    assert len(error.message) < 2000


def test_each_row_has_a_name_of_its_own() -> None:
    names = [row[0] for row in MALFORMED]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "changes",
    [
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": LONG}},
        {"messages": [{"role": "user", "content": [{"type": LONG}]}]},
        {"tools": [TOOL], "tool_choice": {"type": LONG}},
    ],
    ids=["a tool's name", "a block's type", "a choice's type"],
)
def test_a_refusal_does_not_repeat_megabytes(changes: dict[str, Any]) -> None:
    with pytest.raises(ApiError) as raised:
        Validate().parse(encode(body(**changes)))
    assert len(raised.value.message) < 500
