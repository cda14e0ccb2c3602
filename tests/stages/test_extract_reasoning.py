"""The stage `extract-reasoning`. How tags are read is in translation/test_think_tags.py."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from pipeline.config.options import OptionError
from pipeline.testing import check_stage, run_stage
from stages.chat_completions.think_tags import THINK
from stages.events import ChatChunk, ChatEnd, ChatRequest, ChatStart
from stages.exchange import Target
from stages.extract_reasoning import ExtractReasoning
from stages.messages_api.stream_events import BlockDelta
from stages.translate_out import TranslateOut
from tests.stages.translation.support import THINKING, finish, text
from tests.support import ON_BOTH, chat_request

REQUEST = chat_request(stream=True, thinking=THINKING)


@pytest.fixture
def anyio_backend() -> str:
    """The stage awaits nothing; its contract is tested on trio too."""
    return "asyncio"


async def answered(request: ChatRequest, message: str) -> list[tuple[str, str]]:
    """The blocks of a response after `translate-out`."""
    chunks: list[Any] = [ChatChunk(item) for item in (text(message), finish())]
    events = await run_stage(TranslateOut(), [ChatStart(request), *chunks, ChatEnd()])
    deltas = [item for item in events if isinstance(item, BlockDelta)]
    return [(item.kind, item.text) for item in deltas if item.kind != "signature_delta"]


@ON_BOTH
async def test_it_keeps_to_the_contract() -> None:
    await check_stage(ExtractReasoning(), [REQUEST])


@pytest.mark.parametrize("tag", ["think", "thinking", "reasoning"])
async def test_the_usual_tags_are_known(tag: str) -> None:
    [request] = await run_stage(ExtractReasoning(), [evolve(REQUEST, think_tags=())])
    assert await answered(request, f"<{tag}>Hm</{tag}>\nYes") == [
        ("thinking_delta", "Hm"),
        ("text_delta", "Yes"),
    ]


async def test_others_can_be_named() -> None:
    stage = ExtractReasoning({"[THINK]": "[/THINK]", "Here is my thought:": "Here is my answer:"})
    [request] = await run_stage(stage, [REQUEST])
    for response in ("[THINK]Hm[/THINK]Yes", "Here is my thought:Hm Here is my answer:Yes"):
        kinds, words = zip(*await answered(request, response), strict=True)
        assert kinds == ("thinking_delta", "text_delta")
        assert words[1] == "Yes"
    assert await answered(request, "<think>a</think>") == [("text_delta", "<think>a</think>")]


async def test_the_prompt_may_have_opened_the_first_tag() -> None:
    [request] = await run_stage(ExtractReasoning(starts_inside=True), [REQUEST])
    for response in ("Hm</think>Yes", "<think>Hm</think>Yes", "<thinking>Hm</thinking>Yes"):
        assert await answered(request, response) == [
            ("thinking_delta", "Hm"),
            ("text_delta", "Yes"),
        ]


async def test_each_backend_may_have_its_own() -> None:
    stages = [
        ExtractReasoning({"<a>": "</a>"}, backends=("fake",)),
        ExtractReasoning({"<b>": "</b>"}, backends=("other",)),
    ]
    other = evolve(REQUEST, resolved=evolve(REQUEST.resolved, target=Target("other", "m")))
    third = evolve(REQUEST, resolved=evolve(REQUEST.resolved, target=Target("third", "m")))
    tags = []
    for request in (REQUEST, other, third):
        for stage in stages:
            [request] = await run_stage(stage, [request])
        tags.append(request.think_tags)
    assert tags == [(("<a>", "</a>"),), (("<b>", "</b>"),), THINK]


@pytest.mark.parametrize("tags", [{}, {"": "</a>"}, {"<a>": ""}, {" <a>": "</a>"}])
def test_a_tag_has_to_have_both_ends(tags: Any) -> None:
    with pytest.raises(OptionError, match="tags"):
        ExtractReasoning(tags)
