"""Read the message and the codes of an error body, in any of the shapes that backends use.

    shape                                                     sent by
    -------------------------------------------------------   ---------------------------------
    {"error": {"message", "type", "code"}}                    OpenAI, vLLM, llama.cpp, most
    {"error": {"message", "code", "metadata": {"raw"}}}       OpenRouter; `raw` may be JSON
    [{"error": {"code", "message", "status", "details"}}]     Gemini
    {"object": "error", "message", "type", "code"}            vLLM up to 0.8, Mistral
    {"error": "text"}, {"code": "…", "error": "text"}         Ollama, LM Studio, TGI; xAI
    {"error_code", "message"}                                 Databricks
    {"detail": "text"}, {"detail": [{"loc", "msg", …}]}       FastAPI
    {"errors": [{"code", "message"}]}                         Cloudflare
    {"base_resp": {"status_code", "status_msg"}}              MiniMax, with the status 200
    "text", or the text alone                                 a gateway before the backend

FastAPI's `input` and `ctx` are not read: they quote the request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve, frozen

from stages.chat_completions.json_values import as_array, as_object, as_string
from stages.wire import json_codec

_MAX_DEPTH = 6
_MAX_NESTED_JSON = 64 * 1024  # characters
_MAX_PROBLEMS = 5
_CODES = ("code", "type", "error_code", "status", "status_code", "reason")
_TEXTS = ("error", "message", "detail", "errors", "base_resp", "status_msg", "msg")
#: Members whose value is quoted as JSON if it contains no text.
_QUOTED_AS_JSON = ("message", "detail")


@frozen
class ErrorBody:
    """The message, and all codes and types around it, from the outside in.

    `status` is an HTTP status among the codes, for an error within a response of status 200.
    """

    text: str = ""
    codes: tuple[str, ...] = ()
    status: int | None = None


def read_error_body(body: Any, depth: int = 0) -> ErrorBody:
    """Read an error body, or a part of one."""
    if depth > _MAX_DEPTH:
        return ErrorBody()
    if isinstance(body, str):
        return _of_text(body, depth)
    if isinstance(body, list):
        problems = list(_problems(body))
        return (
            ErrorBody("; ".join(problems))
            if problems
            else read_error_body(next(iter(body), None), depth + 1)
        )
    return _of_object(body, depth) if isinstance(body, dict) else ErrorBody()


def _of_text(body: str, depth: int) -> ErrorBody:
    """Read a text, which may be the JSON of another error."""
    body = body.strip()
    if body.startswith(("{", "[")) and len(body) <= _MAX_NESTED_JSON:
        try:
            inner = read_error_body(json_codec.decode_lenient(body.encode()), depth + 1)
        except ValueError:
            inner = ErrorBody()
        if inner.text:
            return inner
    return ErrorBody(body)


def _of_object(body: dict[str, Any], depth: int) -> ErrorBody:
    codes, status = tuple(_codes(body)), _status(body)
    raw = as_object(body.get("metadata")).get("raw")
    for name, value in (("raw", raw), *((member, body.get(member)) for member in _TEXTS)):
        result = read_error_body(value, depth + 1) if value else ErrorBody()
        if (
            not result.text
            and name in _QUOTED_AS_JSON
            and isinstance(value, (dict, list))
            and value
        ):
            result = ErrorBody(json_codec.encode(value).decode())
        if result.text or result.codes:
            codes, status = (*codes, *result.codes), status or result.status
        if result.text:
            return evolve(result, codes=codes, status=status)
    return ErrorBody("", codes, status)


def _codes(body: dict[str, Any]) -> Iterator[str]:
    for name in _CODES:
        value = body.get(name)
        if isinstance(value, str) or type(value) is int:
            yield str(value)
    for detail in map(as_object, as_array(body.get("details"))):  # Google's
        if reason := as_string(detail.get("reason")):
            yield reason


def _status(body: dict[str, Any]) -> int | None:
    code = body.get("code")
    return code if type(code) is int and 400 <= code < 600 else None


def _problems(body: list[Any]) -> Iterator[str]:
    """The messages of FastAPI's list of validation problems, with their places."""
    for problem in map(as_object, body[:_MAX_PROBLEMS]):
        if message := as_string(problem.get("msg")):
            place = ".".join(str(part)[:80] for part in as_array(problem.get("loc"))[:10])
            yield f"{message} ({place})" if place else message
