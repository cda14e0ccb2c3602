"""The table in docs/operations.md is what `llm-proxy replay` prints."""

from __future__ import annotations

from typing import Any

from proxy.replay.comparison import Sums, compare
from proxy.replay.report import summary, table
from proxy.replay.run import Result
from tests.docs.pages import Page


def result(path: str, tokens: tuple[int, int], seconds: float, target: str) -> Result:
    call = {"type": "tool_use", "name": "read", "input": {"path": path}}
    message: dict[str, Any] = {
        "content": [{"type": "text", "text": "I will."}, call],
        "stop_reason": "tool_use",
        "usage": dict(zip(("input_tokens", "output_tokens"), tokens, strict=True)),
    }
    return Result(message, seconds=seconds, target=target)


def test_the_table_of_differences() -> None:
    before = result("a.txt", (1052, 27), 1.2, "local/smollm2")
    same = compare("req_1", before, before)
    differing = compare(
        "req_5be1d9b0fb8a4a3d9c1fc6a7",
        before,
        result("b.txt", (1049, 31), 0.83, "ollama/qwen3"),
    )
    sums = Sums(skipped=1)
    for comparison in (same, same, differing):
        sums.add(comparison)

    screen = f"{table(differing)}\n{summary(sums, interrupted=False)}\n"

    assert screen in [block.text for block in Page("docs/operations.md").blocks("text")], screen
