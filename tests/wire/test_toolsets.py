"""A computer toolset through the official SDK: one call at a time, given back with its result."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.agents import create, sdk
from tests.wire.backend import ScriptedBackend
from tests.wire.chat import DONE, END, completion, delta, head, sse, whole

TOOLSET: Any = {"type": "computer_toolset_20260801", "configs": {"zoom": {"enabled": False}}}


def clicking(stream: bool) -> bytes:
    """Two calls, of which the client wants one."""
    calls = [
        {"index": n, "id": f"call_{n}", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(
            [("computer__left_click", '{"coordinate":[3,4]}'), ("computer__screenshot", "{}")]
        )
    ]
    if stream:
        return head() + sse(delta(tool_calls=calls), delta("tool_calls")) + DONE + END
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return whole(200, {"choices": [choice]})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_toolset_is_used_one_call_at_a_time(
    stream: bool, url: str, backend: ScriptedBackend
) -> None:
    backend.says(clicking(stream))
    backend.says(whole(200, completion("Done.")))
    asked: dict[str, Any] = {
        "model": "claude-test",
        "max_tokens": 100,
        "tools": [TOOLSET],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }
    history: list[Any] = [{"role": "user", "content": "Click."}]
    with sdk(url) as client:
        message = create(client, stream, {**asked, "messages": history})
        [block] = message.content
        assert block.type == "tool_use"
        assert (block.name, block.toolset_name) == ("left_click", "computer")
        assert block.input == {"coordinate": [3, 4]}
        result = {"type": "tool_result", "tool_use_id": block.id, "toolset_name": "computer"}
        history += [
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [{**result, "content": "clicked"}]},
        ]
        client.messages.create(**asked, messages=history)

    first, second = (request.body for request in backend.requests)
    assert len(first["tools"]) == 16
    assert first["parallel_tool_calls"] is False
    [call] = second["messages"][1]["tool_calls"]
    assert call["function"] == {"name": "computer__left_click", "arguments": '{"coordinate":[3,4]}'}
    answered = {"role": "tool", "tool_call_id": "call_0", "content": "clicked"}
    assert second["messages"][2] == answered
