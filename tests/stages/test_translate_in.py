"""The stage `translate-in`."""

from __future__ import annotations

import pytest
from attrs import evolve

from pipeline.testing import check_stage, run_stage
from stages.events import ChatRequest, Resolved
from stages.exchange import Degradation, Target
from stages.messages_api.errors import InvalidRequestError
from stages.off_loop import LARGE_BODY
from stages.translate_in import TranslateIn
from tests.pdfs import pdf
from tests.rounds import turning
from tests.secrets import PROMPT
from tests.support import backend, degradations, http, request, resolved

STAGE = TranslateIn({"fake": backend(), "other": backend(max_tokens_field="max_completion_tokens")})


async def test_it_keeps_to_the_contract() -> None:
    await check_stage(STAGE, [resolved()])


async def test_a_request_is_translated_and_kept() -> None:
    event = resolved(system="Be brief.", top_k=1)
    assert await run_stage(STAGE, [event]) == [
        ChatRequest(
            event,
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}],
            {"max_tokens": 100},
            (Degradation("top_k", "dropped", "top_k"),),
            think_tags=(("<think>", "</think>"),),
            raw_estimate=19,
            estimate=19,
        )
    ]


async def test_the_exchange_has_what_was_dropped_or_changed() -> None:
    event = resolved(top_k=1)

    [out] = await run_stage(STAGE, [event])

    assert event.exchange.degradations == out.degradations
    assert [str(degradation) for degradation in out.degradations] == ["top_k:dropped"]


async def test_with_strict_what_would_be_dropped_is_refused() -> None:
    strict = TranslateIn({"fake": backend()}, strict=True)
    with pytest.raises(InvalidRequestError, match=r"^top_k: would be dropped .* \(strict\)$"):
        await run_stage(strict, [resolved(top_k=1)])
    assert len(await run_stage(strict, [resolved(temperature=1)])) == 1


async def test_the_profile_is_that_of_the_requests_backend() -> None:
    event = Resolved(http(), request(), Target("other", "m"))
    [out] = await run_stage(STAGE, [event])
    assert out.options == {"max_completion_tokens": 100}


async def test_overrides_of_a_model_count() -> None:
    event = Resolved(http(), request(top_k=1), Target("fake", "m", {"fields": {"top_k": "map"}}))
    [out] = await run_stage(STAGE, [event])
    assert (out.options, degradations(out.exchange)) == ({"max_tokens": 100, "top_k": 1}, ())
    [out] = await run_stage(STAGE, [resolved(top_k=1)])
    assert degradations(out.exchange) == ("top_k:dropped",)


async def test_the_estimate_is_corrected_by_this_model_s_usage() -> None:
    calibrated = backend()
    calibrated.calibration.learn("some-model", 100_000, 200_000)
    stage = TranslateIn({"fake": calibrated})
    [out] = await run_stage(stage, [resolved(system="word " * 400)])
    assert 1.9 < out.estimate / out.raw_estimate < 2.1
    [other] = await run_stage(stage, [Resolved(http(), request(), Target("fake", "other"))])
    assert other.estimate == other.raw_estimate


async def test_unsupported_content_is_refused() -> None:
    document = {"type": "document", "source": {"type": "file", "file_id": "f"}}
    event = resolved(messages=[{"role": "user", "content": [document]}])
    with pytest.raises(InvalidRequestError, match="there is no Files API here"):
        await run_stage(STAGE, [event])


@pytest.mark.parametrize("by_tool", [False, True])
async def test_a_pdf_is_read_wherever_it_is(by_tool: bool) -> None:
    [request] = await run_stage(TranslateIn(backends={"fake": backend()}), [with_pdf(by_tool)])

    assert "Invoice 42" in request.messages[0]["content"]


async def test_row_a5_the_limits_are_those_of_the_stage() -> None:
    stage = TranslateIn(backends={"fake": backend()}, pdf_timeout=0.001)
    with pytest.raises(InvalidRequestError, match=r"take longer to read than 0\.001 s"):
        await run_stage(stage, [with_pdf(text="never read before")])


def with_pdf(by_tool: bool = False, text: str = "Invoice 42") -> Resolved:
    source = {"type": "base64", "media_type": "application/pdf", "data": pdf(text)}
    block = {"type": "document", "source": source}
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": [block]}
    return resolved(messages=[{"role": "user", "content": [result if by_tool else block]}])


@pytest.mark.untraced
async def test_row_a7_a_large_request_is_translated_off_the_event_loop() -> None:
    turns = [{"role": role, "content": "word"} for role in ("user", "assistant")] * 5000
    event = evolve(resolved(messages=turns), new_bytes=LARGE_BODY)
    async with turning() as turned:
        [request] = await run_stage(STAGE, [event])
    assert len(request.messages) == 10_000
    assert turned.rounds > 5
