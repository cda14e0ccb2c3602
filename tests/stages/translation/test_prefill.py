"""The prefill, where a backend repeats it."""

from __future__ import annotations

from typing import Any

import pytest

from stages.translation.request import chat_request
from tests.stages.translation import support
from tests.support import profile, resolved

BEGUN = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "1, 2,"}]


@pytest.mark.parametrize(
    ("value", "output"),
    [("1, 2, 3, 4", " 3, 4"), ("3, 4", "3, 4"), ("1, 2,", None), (None, None)],
)
def test_a_whole_response_does_not_begin_with_it_again(
    value: str | None, output: str | None
) -> None:
    request = chat_request(resolved(messages=BEGUN), profile(echoes_prefill=True))
    result = support.message([support.completion(content=value)], request=request)
    assert [block["text"] for block in result["content"]] == ([output] if output else [])


@pytest.mark.parametrize(
    "changes",
    [{"stream": True}, {"messages": BEGUN[:1]}],
    ids=["a stream has it once", "nothing is begun"],
)
def test_otherwise_nothing_is_taken_away(changes: dict[str, Any]) -> None:
    event = resolved(**{"messages": BEGUN, **changes})
    assert chat_request(event, profile(echoes_prefill=True)).echoed_prefill == ""
    assert chat_request(resolved(messages=BEGUN), profile()).echoed_prefill == ""
