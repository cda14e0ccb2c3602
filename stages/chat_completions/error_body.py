"""Why a backend refuses, out of an error body in any of the shapes there are.

    shape                                                     whose
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
    "text", or the text alone                                 whatever stands before a backend

Only what the backend itself says is read: FastAPI's `input` and `ctx` quote the request.
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
#: Those whose value is shown as it is where there is no text in it.
_SHOWN = ("message", "detail")


@frozen
class ErrorBody:
    """The message, and all codes and types that stand with it, from the outside in.

    `status` is the HTTP status among them, for an error within an answer that began with 200.
    """

    text: str = ""
    codes: tuple[str, ...] = ()
    status: int | None = None


def read_error_body(said: Any, depth: int = 0) -> ErrorBody:
    """Read an error body, or a part of one."""
    if depth > _MAX_DEPTH:
        return ErrorBody()
    if isinstance(said, str):
        return _of_text(said, depth)
    if isinstance(said, list):
        problems = list(_problems(said))
        return (
            ErrorBody("; ".join(problems))
            if problems
            else read_error_body(next(iter(said), None), depth + 1)
        )
    return _of_object(said, depth) if isinstance(said, dict) else ErrorBody()


def _of_text(said: str, depth: int) -> ErrorBody:
    """A text, which may be the JSON of another error."""
    said = said.strip()
    if said.startswith(("{", "[")) and len(said) <= _MAX_NESTED_JSON:
        try:
            inner = read_error_body(json_codec.decode_answer(said.encode()), depth + 1)
        except ValueError:
            inner = ErrorBody()
        if inner.text:
            return inner
    return ErrorBody(said)


def _of_object(said: dict[str, Any], depth: int) -> ErrorBody:
    codes, status = tuple(_codes(said)), _status(said)
    raw = as_object(said.get("metadata")).get("raw")
    for name, value in (("raw", raw), *((each, said.get(each)) for each in _TEXTS)):
        found = read_error_body(value, depth + 1) if value else ErrorBody()
        if not found.text and name in _SHOWN and isinstance(value, (dict, list)) and value:
            found = ErrorBody(json_codec.encode(value).decode())
        if found.text or found.codes:
            codes, status = (*codes, *found.codes), status or found.status
        if found.text:
            return evolve(found, codes=codes, status=status)
    return ErrorBody("", codes, status)


def _codes(said: dict[str, Any]) -> Iterator[str]:
    for name in _CODES:
        value = said.get(name)
        if isinstance(value, str) or type(value) is int:
            yield str(value)
    for detail in map(as_object, as_array(said.get("details"))):  # Google's
        if known := as_string(detail.get("reason")):
            yield known


def _status(said: dict[str, Any]) -> int | None:
    code = said.get("code")
    return code if type(code) is int and 400 <= code < 600 else None


def _problems(said: list[Any]) -> Iterator[str]:
    """What is wrong in a request, as FastAPI has it."""
    for each in map(as_object, said[:_MAX_PROBLEMS]):
        if message := as_string(each.get("msg")):
            place = ".".join(str(part)[:80] for part in as_array(each.get("loc"))[:10])
            yield f"{message} ({place})" if place else message
