"""Token usage of a response, reported or estimated, counted as in the Messages API."""

from __future__ import annotations

from collections.abc import Reversible
from typing import Any

from attrs import evolve

from stages.chat_completions.chunks import choices_of
from stages.chat_completions.json_values import as_count, as_object
from stages.messages_api.usage import Usage
from stages.wire.encoded_parts import NOT_ENCODED, EncodedParts
from stages.wire.json_codec import encode

BYTES_PER_TOKEN = 4
_ATTACHED = ("image_url", "file")
# Tokens of an image of about a megapixel, to which clients scale images: 1,600 on Claude, 1,300 in
# patches of 28 pixels, 765 to 1,105 on GPT-4o.
TOKENS_PER_ATTACHMENT = 1_300
#: English words have about five characters; rows of spaces become tokens of up to 128.
_MAX_CHARACTERS_PER_TOKEN = 128
_PROMPT_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
# Names for cached tokens. Moonshot and DeepSeek put them next to the prompt's tokens; OpenAI,
# OpenRouter, vLLM, LiteLLM and DashScope put them in the details.
_READ = ("cached_tokens", "prompt_cache_hit_tokens")
_WRITTEN = (
    "cache_write_tokens",
    "created_cache_tokens",
    "cache_creation_tokens",
    "cache_creation_input_tokens",
)
_CACHE = {*_PROMPT_DETAILS, *_READ, "cache_read_input_tokens", "cache_creation_input_tokens"}
_REASONING = {*_OUTPUT_DETAILS, "reasoning_tokens"}


def reported_usage(data: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
    """The usage in a chunk or completion with these choices; empty if it has none.

    It is next to the choices, in `x_groq` (Groq), or in a choice (Moonshot).
    """
    usage = data.get("usage")
    if not usage and "x_groq" in data:
        usage = as_object(data["x_groq"]).get("usage")
    if not usage:
        for choice in choices:
            if "usage" in choice:
                usage = choice["usage"] or usage
    return as_object(usage) if usage else {}


def merge_usage(earlier: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Merge two usage reports of one response: the last value that is not 0 counts.

    Some backends report a growing usage with each chunk, some report the prompt first and the
    output later, some end with zeros.
    """
    return {**earlier, **{name: value for name, value in more.items() if value}}


def last_reported_usage(chunks: Reversible[Any]) -> dict[str, Any]:
    """The last usage in these chunks; empty if there is none."""
    for data in reversed(chunks):
        if usage := reported_usage(data, choices_of(data)):
            return usage
    return {}


def parse_usage(reported: dict[str, Any]) -> Usage:
    """Convert a Chat Completions `usage`, in any dialect.

    In Chat Completions the prompt includes cached tokens. In the result, the input, the cache reads
    and the cache writes add up to the prompt, and the output includes the thinking.
    """
    prompt = _first_count(reported, "prompt_tokens", "input_tokens")
    output = _first_count(reported, "completion_tokens", "output_tokens")
    total = _first_count(reported, "total_tokens")
    read, written, excludes_cache = (
        (0, 0, False) if _CACHE.isdisjoint(reported) else _cached(reported, prompt)
    )
    thinking = 0 if _REASONING.isdisjoint(reported) else _thinking(reported)
    unaccounted = total - prompt - output
    if excludes_cache or unaccounted in (read, written, read + written):
        unaccounted = 0
    if not (prompt or excludes_cache):  # derive the prompt from the total
        prompt, unaccounted = max(0, unaccounted) if output else 0, 0
    output = _output_with_thinking(output, thinking, unaccounted)
    return Usage(
        input_tokens=prompt if excludes_cache else prompt - read - written,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        thinking_tokens=thinking,
    )


def _cached(reported: dict[str, Any], prompt: int) -> tuple[int, int, bool]:
    """Cache reads, cache writes, and whether the prompt's count excludes them.

    It does where Databricks serves Claude, which counts as the Messages API does, and wherever
    the cached tokens are more than the prompt.
    """
    details = _details(reported, *_PROMPT_DETAILS)
    read = _first_count(details, "cached_tokens") or _first_count(reported, *_READ)
    written = _first_count(details, *_WRITTEN)
    excludes_cache = not details and not read
    read = read or _first_count(reported, "cache_read_input_tokens")
    written = written or _first_count(reported, "cache_creation_input_tokens")
    return read, written, bool(read or written) and (excludes_cache or read + written > prompt)


def _thinking(reported: dict[str, Any]) -> int:
    details = _details(reported, *_OUTPUT_DETAILS)
    return _first_count(details, "reasoning_tokens") or _first_count(reported, "reasoning_tokens")


def _output_with_thinking(output: int, thinking: int, unaccounted: int) -> int:
    """The output including the thinking, which xAI and Gemini count separately.

    `unaccounted` is the total minus prompt and output. It is thinking if it is about equal to the
    reported thinking, or if none is reported: Gemini reports none.
    """
    if unaccounted > 0 and (not thinking or abs(unaccounted - thinking) * 10 <= thinking):
        return output + unaccounted
    return output + thinking if output < thinking else output


def _details(reported: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        if name in reported and (usage := as_object(reported[name])):
            return usage
    return {}


def _first_count(members: dict[str, Any], *names: str) -> int:
    """The first of these members that is a number above 0; 0 if none is."""
    for name in names:
        if name in members and (number := as_count(members[name])):
            return number
    return 0


def estimate_prompt_tokens(
    messages: list[dict[str, Any]], tools: Any = (), encoded: EncodedParts = NOT_ENCODED
) -> int:
    """Estimate the tokens of a prompt: a quarter of its size, at least 1."""
    size = len(encoded.tools_json if encoded.has_tools(tools) else encode(tools))
    if encoded.has_messages_of(messages):
        size += encoded.size
        messages = messages[len(encoded.messages) :]
    return (size + sum(map(estimated_size, messages))) // BYTES_PER_TOKEN + 1


def estimated_size(message: dict[str, Any]) -> int:
    """Return the bytes of a message. Each image or file counts a fixed number of tokens instead."""
    parts = message.get("content")
    attached = 0
    if isinstance(parts, list):
        texts = [part for part in parts if part.get("type") not in _ATTACHED]
        attached = len(parts) - len(texts)
        message = {**message, "content": texts}
    return len(encode(message)) + attached * TOKENS_PER_ATTACHMENT * BYTES_PER_TOKEN


def with_estimates(used: Usage, estimate: int, characters: int) -> Usage:
    """Replace missing counts by estimates, and then mark the usage as estimated.

    `estimate` is the prompt's tokens; `characters` is the length of the response. A reported output
    that is too small for this length is ignored: some backends count only the last chunk.
    """
    plausible = characters <= used.output_tokens * _MAX_CHARACTERS_PER_TOKEN
    if used.prompt_tokens and used.output_tokens and plausible:
        return used
    if not used.prompt_tokens:
        used = evolve(used, input_tokens=estimate)
    output = used.output_tokens if plausible else 0
    return evolve(used, output_tokens=output or estimate_output_tokens(characters), estimated=True)


def estimate_output_tokens(characters: int) -> int:
    """Estimate the tokens of a response of this length, at least 1."""
    return characters // BYTES_PER_TOKEN + 1
