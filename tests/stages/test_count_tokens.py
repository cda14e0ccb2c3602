"""The stage `count-tokens`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import Factory, define, evolve

from pipeline.chain import Chain
from pipeline.testing import check_stage, run_stage
from stages.count_tokens import CountTokens
from stages.events import ChatRequest, Resolved, ResponseBody, ResponseStart
from stages.exchange import Target
from stages.fallback import Fallback
from stages.translate_in import TranslateIn
from tests.support import backend, chat_request, resolved


@define
class Counting:
    """A backend with a scripted count: a number, None where it cannot."""

    number: int | None
    asked: list[ChatRequest] = Factory(list)

    async def count_tokens(self, request: ChatRequest) -> int | None:
        self.asked.append(request)
        return self.number


def counting(number: Any) -> CountTokens:
    return CountTokens({"fake": Counting(number)})  # type: ignore[dict-item]


async def counted(stage: CountTokens, request: ChatRequest) -> tuple[int, str]:
    """The number, and how it was found."""
    start, body = await run_stage(stage, [request])
    assert isinstance(start, ResponseStart)
    assert isinstance(body, ResponseBody)
    assert (start.status, body.more) == (200, False)
    assert start.headers["content-type"] == "application/json"
    assert start.headers["content-length"] == str(len(body.data))
    response = json.loads(body.data)
    assert list(response) == ["input_tokens"]
    return response["input_tokens"], start.headers["x-llm-proxy-token-count"]


@pytest.mark.parametrize("number", [17, None], ids=["exact", "estimated"])
async def test_it_keeps_to_the_contract(number: int | None) -> None:
    await check_stage(counting(number), [chat_request(max_tokens=None)])


@pytest.mark.parametrize("number", [17, 0])
async def test_a_count_of_the_backend_is_exact(number: int) -> None:
    assert await counted(counting(number), chat_request()) == (number, "exact")


async def test_a_request_without_a_count_is_estimated() -> None:
    small, options = await counted(counting(None), chat_request())
    large, _ = await counted(counting(None), chat_request(system="word " * 200))
    assert options == "estimated"
    assert 0 < small < 30
    assert 250 < large - small < 300


async def test_the_estimate_is_the_one_that_was_corrected() -> None:
    request = evolve(chat_request(), raw_estimate=100, estimate=130)
    assert await counted(counting(None), request) == (130, "estimated")


async def test_the_backend_of_the_request_is_asked() -> None:
    fake, other = Counting(1), Counting(2)
    request = chat_request()
    stage = CountTokens({"other": other, "fake": fake})  # type: ignore[dict-item]
    assert await counted(stage, request) == (1, "exact")
    assert (fake.asked, other.asked) == ([request], [])


async def test_after_fallback_it_counts_for_the_first_choice() -> None:
    backends = {"blind": backend(fields={"image.base64": "reject"}), "seeing": backend()}
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    output = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    first, second = (Target(name, "m", label=name) for name in backends)
    out: list[Any] = []

    async def keep(event: Any) -> None:
        out.append(event)

    chain = Chain.of((Fallback(), TranslateIn(backends), CountTokens(backends)), Resolved)
    await chain.run(evolve(resolved(messages=output), target=first, alternatives=(second,)), keep)
    assert json.loads(out[-1].data)["input_tokens"] > 1000
