"""Token usage: what a backend reports, in the Messages API's way of counting, or an estimate."""

from __future__ import annotations

from collections.abc import Reversible
from typing import Any

from attrs import evolve

from stages.chat_completions.chunks import choices_of
from stages.chat_completions.json_values import as_count, as_object
from stages.messages_api.usage import Usage
from stages.wire.json_codec import encode

BYTES_PER_TOKEN = 4
_ATTACHED = ("image_url", "file")
# What vision models make of an image of about a megapixel, which is what clients scale them to:
# 1,600 on Claude, 1,300 in patches of 28 pixels, 765 to 1,105 on GPT-4o.
TOKENS_PER_ATTACHMENT = 1_300
#: Words of English have some five characters, and rows of spaces become tokens of up to 128.
_MAX_CHARACTERS_PER_TOKEN = 128
_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
# Names for cached tokens: of Moonshot and DeepSeek, next to the prompt's tokens; and in their
# details, of OpenAI and OpenRouter, vLLM, LiteLLM, DashScope.
_READ = ("cached_tokens", "prompt_cache_hit_tokens")
_WRITTEN = (
    "cache_write_tokens",
    "created_cache_tokens",
    "cache_creation_tokens",
    "cache_creation_input_tokens",
)
_CACHE = {*_PROMPT_DETAILS, *_READ, "cache_read_input_tokens", "cache_creation_input_tokens"}
_REASONING = {*_OUTPUT_DETAILS, "reasoning_tokens"}


def reported(data: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    """The usage in a chunk (or whole completion) with these choices; empty where it has none.

    It is next to the choices, in `x_groq` (Groq), or in a choice (Moonshot).
    """
    found = data.get("usage")
    if not found and "x_groq" in data:
        found = as_object(data["x_groq"]).get("usage")
    if not found:
        for choice in choices:
            if "usage" in choice:
                found = choice["usage"] or found
    return as_object(found) if found else {}


def merged(earlier: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The usage that was reported earlier in an answer, and more of it.

    Some report it with each chunk, and it grows; some report the prompt first and the rest later;
    some end with zeros. So of each member the last number counts that says anything.
    """
    return {**earlier, **{name: value for name, value in more.items() if value}}


def last_reported(chunks: Reversible[Any]) -> dict[str, Any]:
    """The last usage in these chunks; empty where there is none."""
    for data in reversed(chunks):
        if found := reported(data, choices_of(data)):
            return found
    return {}


def usage(told: dict[str, Any]) -> Usage:
    """A Chat Completions `usage`, in any dialect. Its prompt includes cached tokens; here not.

    What is in the result adds up: input, cache reads and cache writes are the prompt, and the
    output includes the thinking.
    """
    prompt = _first(told, "prompt_tokens", "input_tokens")
    output = _first(told, "completion_tokens", "output_tokens")
    total = _first(told, "total_tokens")
    read, written, on_top = (0, 0, False) if _CACHE.isdisjoint(told) else _cached(told, prompt)
    thinking = 0 if _REASONING.isdisjoint(told) else _thinking(told)
    beyond = total - prompt - output
    if on_top or beyond in (read, written, read + written):
        beyond = 0
    if not (prompt or on_top):  # then the total tells it
        prompt, beyond = max(0, beyond) if output else 0, 0
    output = _whole_output(output, thinking, beyond)
    return Usage(
        input_tokens=prompt if on_top else prompt - read - written,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        thinking_tokens=thinking,
    )


def _cached(told: dict[str, Any], prompt: int) -> tuple[int, int, bool]:
    """Tokens read from a cache and written to one, and whether they come on top of the prompt's.

    They do where Databricks serves Claude, which counts as the Messages API does, and wherever
    there are more of them than the prompt has.
    """
    details = _details(told, *_PROMPT_DETAILS)
    read = _first(details, "cached_tokens") or _first(told, *_READ)
    written = _first(details, *_WRITTEN)
    on_top = not details and not read
    read = read or _first(told, "cache_read_input_tokens")
    written = written or _first(told, "cache_creation_input_tokens")
    return read, written, bool(read or written) and (on_top or read + written > prompt)


def _thinking(told: dict[str, Any]) -> int:
    details = _details(told, *_OUTPUT_DETAILS)
    return _first(details, "reasoning_tokens") or _first(told, "reasoning_tokens")


def _whole_output(output: int, thinking: int, beyond: int) -> int:
    """The output with the thinking, which xAI and Gemini count next to it.

    `beyond` is what the total has that prompt and output do not explain. It is thinking where it
    is about as much, and where none is reported: Gemini reports none.
    """
    if beyond > 0 and (not thinking or abs(beyond - thinking) * 10 <= thinking):
        return output + beyond
    return output + thinking if output < thinking else output


def _details(told: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        if name in told and (found := as_object(told[name])):
            return found
    return {}


def _first(members: dict[str, Any], *names: str) -> int:
    """The first of these members that counts anything."""
    for name in names:
        if name in members and (number := as_count(members[name])):
            return number
    return 0


def estimated_input(messages: list[dict[str, Any]], tools: Any = ()) -> int:
    """About how many tokens the backend will read: a quarter of the bytes, at least 1.

    Images and files, whose bytes say nothing of their tokens, count the same, each.
    """
    size, attached = len(encode(tools)), 0
    for message in messages:
        parts = message.get("content")
        if isinstance(parts, list):
            texts = [part for part in parts if part.get("type") not in _ATTACHED]
            attached += len(parts) - len(texts)
            message = {**message, "content": texts}
        size += len(encode(message))
    return size // BYTES_PER_TOKEN + attached * TOKENS_PER_ATTACHMENT + 1


def completed(used: Usage, estimate: int, characters: int) -> Usage:
    """What was reported, with estimates in the place of what was not, and marked then.

    `estimate` is of the prompt, in tokens; `characters` are those of the answer. An output with
    which each token would be longer than any is that of a single chunk, and not believed.
    """
    believed = characters <= used.output_tokens * _MAX_CHARACTERS_PER_TOKEN
    if used.prompt_tokens and used.output_tokens and believed:
        return used
    if not used.prompt_tokens:
        used = evolve(used, input_tokens=estimate)
    output = used.output_tokens if believed else 0
    return evolve(used, output_tokens=output or estimated_output(characters), estimated=True)


def estimated_output(characters: int) -> int:
    """About how many tokens an answer of so many characters took, at least 1."""
    return characters // BYTES_PER_TOKEN + 1
