"""Quotes from a request in an error message do not count, and messages are cut."""

from __future__ import annotations

from typing import Any

from stages.chat_completions.error_patterns import ErrorPattern, split_labels
from stages.chat_completions.overflow import overflow_error
from stages.messages_api.errors import InternalError, InvalidRequestError
from tests.cases import for_each
from tests.stages.chat_completions.support import openai, refused

# A4: where a backend quotes a request

QUOTED: dict[str, tuple[int, Any]] = {
    "a body": (
        400,
        openai(
            "unknown field 'foo' in request {'messages': [{'role': 'user', 'content': 'fix the "
            "bug: prompt is too long'}]}"
        ),
    ),
    "an input": (
        422,
        openai("bad value for messages.0.content, input: 'the error says: input is too long'"),
    ),
    "a prompt": (500, openai("failed for prompt: 'why context_length_exceeded?'")),
    "FastAPI's input": (
        422,
        {
            "detail": [
                {
                    "type": "string_type",
                    "loc": ["body", "messages", 0, "content"],
                    "msg": "Input should be a valid string",
                    "input": "prompt is too long: 9 tokens > 8 maximum",
                    "ctx": {"error": "context_length_exceeded"},
                }
            ]
        },
    ),
    "vLLM's list of errors": (
        400,
        openai(
            "[{'type': 'string_type', 'loc': ('body',), 'msg': 'Input should be a string', "
            "'input': 'Context size has been exceeded. prompt is too long'}]"
        ),
    ),
    "words in the middle": (400, openai("The title you sent is: prompt is too long")),
    "what an error says": (400, openai("the error says: input is too long")),
    "through LiteLLM": (
        400,
        openai("litellm.BadRequestError: OpenAIException - bad role in 'prompt is too long'"),
    ),
    "a key in a prompt": (400, openai("cannot parse 'Invalid API key', Insufficient balance")),
}


@for_each(("status", "body"), QUOTED.values(), ids=QUOTED)
def test_row_a4_a_quotation_of_the_request_is_no_refusal(status: int, body: Any) -> None:
    error = refused(status, body)
    expected = InternalError if status == 500 else InvalidRequestError
    assert type(error) is expected
    assert error.message.startswith(f"backend `local` answered {status}: ")


def test_row_a4_fastapi_s_input_is_not_sent_to_the_client() -> None:
    _, body = QUOTED["FastAPI's input"]
    reported = refused(422, body).message
    assert reported == (
        "backend `local` answered 422: Input should be a valid string (body.messages.0.content)"
    )


# A2: linear work

LONG = {
    "a phrase": "maximum context length is 1 tokens ",
    "a phrase and its gap": "maximum context length is 1 tokens requested 2 tokens (",
    "labels": "Error: ",
    "codes": "400 ",
    "words": "word ",
    "digits": "1",
    "commas": "1,1",
    "quotes": "{'error': {'message': '",
    "keys": "key: sk-",
}


@for_each("phrase", LONG.values(), ids=LONG)
def test_row_a2_no_more_than_the_beginning_of_a_message_is_read(phrase: str) -> None:
    short, long = (phrase * (n // len(phrase)) for n in (8_000, 1_000_000))
    assert split_labels(long) == split_labels(short)
    assert len(split_labels(long).text) <= 4000
    assert type(overflow_error(long)) is type(overflow_error(short))


def test_row_a2_a_row_tries_a_gap_no_further_than_it_may_be_wide() -> None:
    row = ErrorPattern("a test", "a…b {n}", "")
    assert row.numbers(split_labels("a" + "x" * 80 + "b 1")) == {}
    assert row.numbers(split_labels("a" + "x" * 81 + "b 1")) is None
