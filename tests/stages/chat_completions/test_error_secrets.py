"""Keys are removed from the messages of a backend."""

from __future__ import annotations

from stages.chat_completions.errors import error_from_object
from tests.cases import for_each
from tests.stages.chat_completions.support import openai, refused

SECRETS = [
    "Incorrect API key provided: sk-proj-Ab12Cd34Ef56Gh78.",
    "Authorization: Bearer Ab12Cd34Ef56Gh78 is not valid",
    "invalid bearer Ab12Cd34Ef56Gh78",
    "token dapiAb12Cd34Ef56Gh78 has expired",
    "unknown key: Ab12Cd34Ef56Gh78",
    "https://x.invalid/v1?key=Ab12Cd34Ef56Gh78&a=b",
    "https://x.invalid/v1?api_key=Ab12Cd34Ef56Gh78",
    "apikey: Ab12Cd34Ef56Gh78",
    'headers: {"x-api-key": "Ab12Cd34Ef56Gh78"}',
    "OPENAI_API_KEY = Ab12Cd34Ef56Gh78",
    "Bearer Ab12Cd34Ef56Gh78+/tail==",
]


@for_each("message", SECRETS)
@for_each("status", [400, 401, 429, 500])
def test_keys_are_taken_out_of_what_the_backend_says(status: int, message: str) -> None:
    for body in (
        openai(message),
        {"error": message},
        {"detail": [{"msg": message}]},
        message.encode(),
    ):
        error = refused(status, body)
        assert "Ab12Cd34Ef56" not in error.message
        assert "tail==" not in error.message
        assert "…" in error.message


@for_each("message", SECRETS)
def test_keys_are_taken_out_of_an_overflow_too(message: str) -> None:
    error = refused(400, openai(f"prompt is too long for {message}"))
    assert error.message.startswith("prompt is too long (")
    assert "Ab12Cd34Ef56" not in error.message


@for_each("message", SECRETS)
def test_keys_are_removed_from_an_error_within_a_response(message: str) -> None:
    assert "Ab12Cd34Ef56" not in error_from_object("local", {"message": message}).message


@for_each(
    "message",
    [
        "Unrecognized key: max_completion_tokens",
        'Additional properties are not allowed, key="parallel_tool_calls"',
        "the keyboard is broken",
        "task-oriented models only",
        "model monkey-patched-model not found",
    ],
)
def test_words_that_only_look_like_keys_are_kept(message: str) -> None:
    assert message in refused(400, openai(message)).message
