"""The stage `validate`. What is wrong with bodies is in tests/malformed.py."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config.options import OptionError
from pipeline.testing import check_stage, run_stage
from stages.events import Authenticated, HttpRequest, Validated
from stages.messages_api import request as m
from stages.messages_api.errors import InvalidRequestError, RequestTooLargeError
from stages.messages_api.part_cache import PARTS
from stages.off_loop import LARGE_BODY
from stages.validate import Validate
from stages.wire import json_codec
from tests.cases import for_each
from tests.rounds import turning
from tests.sdk_types import check_sent
from tests.support import authenticated, body, http, request


async def refusal(stage: Validate, event: Authenticated) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as raised:
        await run_stage(stage, [event])
    return raised.value


def with_headers(**headers: str) -> Authenticated:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Authenticated(http(json_codec.encode(body()), headers=named))


async def test_it_keeps_to_the_contract() -> None:
    await check_stage(Validate(), [authenticated()])


async def test_a_right_request_is_structured() -> None:
    event = authenticated(system="Be brief.")
    assert await run_stage(Validate(), [event]) == [
        Validated(event.http, request(system="Be brief."))
    ]


async def test_the_limit_is_passed_on_to_whoever_reads_the_body() -> None:
    limits = []

    async def read(limit: int) -> bytes:
        limits.append(limit)
        return json_codec.encode(body())

    event = Authenticated(HttpRequest("POST", "/v1/messages", read_body=read))
    await run_stage(Validate(max_body_bytes=12345), [event])
    await run_stage(Validate(), [event])
    assert limits == [12345, 32 * 1024 * 1024]


async def test_a_body_over_the_limit_is_refused_as_the_reader_says() -> None:
    async def read(limit: int) -> bytes:
        raise RequestTooLargeError(f"over {limit}")

    event = Authenticated(HttpRequest("POST", "/v1/messages", read_body=read))
    with pytest.raises(RequestTooLargeError, match="over 1000"):
        await run_stage(Validate(max_body_bytes=1000), [event])


@pytest.mark.parametrize("limit", [0, -1])
def test_the_limit_has_to_be_positive(limit: int) -> None:
    with pytest.raises((OptionError, ValueError), match="max_body_bytes"):
        Validate(max_body_bytes=limit)


async def test_pitfall_16_unknown_fields_are_kept_by_name() -> None:
    managed = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    event = authenticated(context_management=managed, service_tier="auto", brand_new=0, metadata={})
    [out] = await run_stage(Validate(), [event])
    assert out.request.unknown_fields == ("context_management", "service_tier", "brand_new")


DUPLICATES = {
    "at the top": (b'"max_tokens":7', 7),
    "escaped": (b'"max\\u005ftokens":7', 7),
    "further in": (b'"metadata":{"user_id":"a","user_id":"b"}', 100),
}


@for_each(("more", "limit"), DUPLICATES.values(), ids=DUPLICATES)
async def test_of_duplicate_keys_the_last_counts_and_that_is_reported(
    more: bytes, limit: int
) -> None:
    data = json_codec.encode(body())[:-1] + b"," + more + b"}"
    [out] = await run_stage(Validate(), [Authenticated(http(data))])
    assert out.request.max_tokens == limit
    assert out.request.unknown_fields == ("duplicate_keys",)


@for_each(
    ("beta", "budget", "accepted"),
    [
        ("interleaved-thinking-2025-05-14", 8000, True),
        ("a-beta, interleaved-thinking-2025-05-14 ,b", 4000, True),  # a header that came twice
        ("interleaved-thinking-2027-01-01", 8000, True),
        ("a-beta,no-interleaved-thinking-2025-05-14", 8000, False),
        ("", 8000, False),
        ("interleaved-thinking-2025-05-14", 1023, False),
    ],
)
@for_each("stage", [Validate(), Validate(endpoint="count-tokens")], ids=["", "count"])
async def test_row_c6_the_beta_lifts_the_limit_of_the_budget(
    beta: str, budget: int, accepted: bool, stage: Validate
) -> None:
    thinking = {"type": "enabled", "budget_tokens": budget}
    data = json_codec.encode(body(max_tokens=4000, thinking=thinking))
    event = Authenticated(http(data, headers={"anthropic-beta": beta}))
    if accepted:
        assert len(await run_stage(stage, [event])) == 1
    else:
        await refusal(stage, event)


async def test_an_unknown_block_of_the_assistant_is_kept() -> None:
    poem = {"type": "poem", "lines": 4}
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": [poem]}]
    [out] = await run_stage(Validate(), [authenticated(messages=turns)])
    assert out.request.messages[1].content == (m.OtherBlock("poem", poem),)


async def test_an_unknown_block_of_the_user_is_refused() -> None:
    turns = [{"role": "user", "content": [{"type": "poem"}]}]
    error = await refusal(Validate(), authenticated(messages=turns))
    assert error.message == (
        "messages.0.content.0: Input tag 'poem' found using 'type' does not match any of the "
        "expected tags: 'text', 'image', 'document', 'search_result', 'tool_result', "
        "'container_upload'"
    )


THREADS: dict[str, Any] = {
    "create": {"type": "create"},
    "continue": {"type": "continue", "previous_message_id": "msg_1"},
    "empty": {},
    "no object": "x",
}


@for_each("thread", THREADS.values(), ids=THREADS)
async def test_a_thread_is_refused_so_that_the_sdk_sends_everything(thread: Any) -> None:
    error = await refusal(Validate(), authenticated(thread=thread))
    body = error.body("req_1")
    check_sent(body)
    assert body["error"]["details"] == {"error_code": "thread_unsupported_request"}
    assert error.status == 400


async def test_a_thread_is_refused_even_where_the_rest_is_wrong_too() -> None:
    error = await refusal(Validate(), authenticated(thread={"type": "create"}, max_tokens=0))
    assert error.details["error_code"] == "thread_unsupported_request"


async def test_null_means_no_thread() -> None:
    event = Authenticated(http(json_codec.encode({**body(), "thread": None})))
    [out] = await run_stage(Validate(), [event])
    assert out.request.unknown_fields == ()


@for_each("encoding", ["br", "deflate", "gzip, br", "gzip, identity", "x" * 500])
async def test_a_body_in_another_encoding_is_refused_before_it_is_read(encoding: str) -> None:
    async def read(limit: int) -> bytes:
        raise AssertionError("the body was read")

    headers = {"content-encoding": encoding}
    event = Authenticated(HttpRequest("POST", "/", headers, read_body=read))
    error = await refusal(Validate(), event)
    assert error.details == {"error_code": "request_body_encoding_unsupported"}
    assert error.status == 400
    assert len(error.message) < 200


@for_each("encoding", ["identity", "Identity", "gzip", "X-Gzip"])
async def test_a_body_that_is_unpacked_by_now_may_say_how_it_came(encoding: str) -> None:
    [out] = await run_stage(Validate(), [with_headers(content_encoding=encoding)])
    assert isinstance(out, Validated)


@pytest.mark.parametrize("version", ["2023-06-01", "2026-10-21"])
async def test_a_known_version_is_taken(version: str) -> None:
    [out] = await run_stage(Validate(), [with_headers(anthropic_version=version)])
    assert isinstance(out, Validated)


@for_each("version", ["2023-01-01", "latest", "", "2023-06-01, 2023-06-01"])
async def test_an_unknown_version_is_refused(version: str) -> None:
    error = await refusal(Validate(), with_headers(anthropic_version=version))
    assert error.message == f'anthropic-version: "{version}" is not a valid version'


async def test_a_long_version_is_not_repeated_whole() -> None:
    error = await refusal(Validate(), with_headers(anthropic_version="v" * 10_000))
    assert len(error.message) < 100


@for_each(
    "headers",
    [{}, {"anthropic_beta": "a,b"}, {"content_type": "text/plain"}],
    ids=["none", "a beta", "another content type"],
)
async def test_other_headers_do_not_matter(headers: dict[str, str]) -> None:
    [out] = await run_stage(Validate(), [with_headers(**headers)])
    assert isinstance(out, Validated)


async def test_max_tokens_is_required_of_a_message() -> None:
    error = await refusal(Validate(), authenticated(max_tokens=None))
    assert error.message == "max_tokens: Field required"


async def test_max_tokens_is_not_required_for_counting() -> None:
    [out] = await run_stage(Validate(endpoint="count-tokens"), [authenticated(max_tokens=None)])
    assert out.request.max_tokens is None


async def test_a_body_for_counting_is_checked_like_any_other() -> None:
    counting = Validate(endpoint="count-tokens")
    error = await refusal(counting, authenticated(max_tokens=None, messages=[]))
    assert error.message == "messages: at least one message is required"
    error = await refusal(counting, authenticated(max_tokens=-1))
    assert error.message.startswith("max_tokens: Input should be greater than")


async def test_five_problems_are_listed_and_the_rest_counted() -> None:
    blank = {"type": "text", "text": ""}
    for number, ending in ((5, "non-empty"), (6, "; and 1 more")):
        turns = [{"role": "user", "content": [blank] * number}]
        error = await refusal(Validate(), authenticated(messages=turns))
        assert error.message.endswith(ending)
        assert error.message.count("text content blocks must be non-empty") == 5


async def test_wrong_types_and_a_missing_limit_are_reported_together() -> None:
    error = await refusal(Validate(), authenticated(max_tokens=None, model=1, stream=0))
    assert error.message == (
        "max_tokens: Field required; model: Input should be a valid string; "
        "stream: Input should be a valid boolean"
    )


@pytest.mark.untraced
async def test_row_a7_a_large_body_is_read_off_the_event_loop() -> None:
    turns = [{"role": "user", "content": "word"}] * 20_000
    event = authenticated(messages=turns)
    async with turning() as turned:
        [validated] = await run_stage(Validate(), [event])
    assert len(validated.request.messages) == 20_000
    assert validated.size == len(await event.http.read_body(0)) > LARGE_BODY
    assert turned.rounds > 5


async def test_row_a7_a_small_body_takes_no_thread() -> None:
    async with turning() as turned:
        await run_stage(Validate(), [authenticated()])
    assert turned.rounds <= 5


@pytest.mark.untraced
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_row_a7_what_there_is_too_much_of_is_named() -> None:
    many = {"type": "object", "enum": [0] * 320_000}
    event = authenticated(tools=[{"name": "t", "input_schema": many}])
    error = await refusal(Validate(), event)
    assert error.message == "the body has more than 320000 values: shorten the conversation"
    event = authenticated(messages=[{"role": "user", "content": "a"}] * 100_001)
    error = await refusal(Validate(), event)
    assert error.message == "messages: List should have at most 100000 items"


async def test_it_reports_whether_the_messages_are_cached() -> None:
    """Large ones are cached when they come again; see PartCache."""
    large = json_codec.encode(body(messages=[{"role": "user", "content": "a" * LARGE_BODY}]))
    PARTS.resize(1_000_000)
    try:
        validated = [(await run_stage(Validate(), [Authenticated(http(large))]))[0] for _ in "123"]
    finally:
        PARTS.resize(0)
    assert [(event.is_cached, event.new_bytes > LARGE_BODY) for event in validated] == [
        (False, True),
        (True, True),
        (True, False),
    ]


async def test_messages_with_a_key_twice_are_not_cached() -> None:
    data = json_codec.encode(body(messages=[{"role": "user", "content": "a" * 50_000}]))
    data = data.replace(b'"role"', b'"content":"b","role"')
    PARTS.resize(1_000_000)
    try:
        validated = [(await run_stage(Validate(), [Authenticated(http(data))]))[0] for _ in "12"]
    finally:
        PARTS.resize(0)
    assert [event.is_cached for event in validated] == [False, False]
