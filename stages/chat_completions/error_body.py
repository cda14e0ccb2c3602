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

from stages.chat_completions.json_values import items, mapping, text
from stages.wire import json_codec

_MAX_DEPTH = 6
_MAX_NESTED_JSON = 64 * 1024  # characters
_MAX_PROBLEMS = 5
_CODES = ("code", "type", "error_code", "status", "status_code", "reason")
_TEXTS = ("error", "message", "detail", "errors", "base_resp", "status_msg", "msg")
#: Those whose value is shown as it is where there is no text in it.
_SHOWN = ("message", "detail")


@frozen
class Reason:
    """The message, and all codes and types that stand with it, from the outside in.

    `status` is the HTTP status among them, for an error within an answer that began with 200.
    """

    text: str = ""
    codes: tuple[str, ...] = ()
    status: int | None = None


def reason(said: Any, depth: int = 0) -> Reason:
    """Read an error body, or a part of one."""
    if depth > _MAX_DEPTH:
        return Reason()
    if isinstance(said, str):
        return _of_text(said, depth)
    if isinstance(said, list):
        problems = list(_problems(said))
        return (
            Reason("; ".join(problems)) if problems else reason(next(iter(said), None), depth + 1)
        )
    return _of_object(said, depth) if isinstance(said, dict) else Reason()


def _of_text(said: str, depth: int) -> Reason:
    """A text, which may be the JSON of another error."""
    said = said.strip()
    if said.startswith(("{", "[")) and len(said) <= _MAX_NESTED_JSON:
        try:
            inner = reason(json_codec.decode_answer(said.encode()), depth + 1)
        except ValueError:
            inner = Reason()
        if inner.text:
            return inner
    return Reason(said)


def _of_object(said: dict[str, Any], depth: int) -> Reason:
    codes, status = tuple(_codes(said)), _status(said)
    raw = mapping(said.get("metadata")).get("raw")
    for name, value in (("raw", raw), *((each, said.get(each)) for each in _TEXTS)):
        found = reason(value, depth + 1) if value else Reason()
        if not found.text and name in _SHOWN and isinstance(value, (dict, list)) and value:
            found = Reason(json_codec.encode(value).decode())
        if found.text or found.codes:
            codes, status = (*codes, *found.codes), status or found.status
        if found.text:
            return evolve(found, codes=codes, status=status)
    return Reason("", codes, status)


def _codes(said: dict[str, Any]) -> Iterator[str]:
    for name in _CODES:
        value = said.get(name)
        if isinstance(value, str) or type(value) is int:
            yield str(value)
    for detail in map(mapping, items(said.get("details"))):  # Google's
        if known := text(detail.get("reason")):
            yield known


def _status(said: dict[str, Any]) -> int | None:
    code = said.get("code")
    return code if type(code) is int and 400 <= code < 600 else None


def _problems(said: list[Any]) -> Iterator[str]:
    """What is wrong in a request, as FastAPI has it."""
    for each in map(mapping, said[:_MAX_PROBLEMS]):
        if message := text(each.get("msg")):
            place = ".".join(str(part)[:80] for part in items(each.get("loc"))[:10])
            yield f"{message} ({place})" if place else message
