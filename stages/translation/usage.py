"""Token usage: what a backend tells, in the Messages API's way of counting, or an estimate."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from stages.translation.shapes import count, mapping
from stages.wire.events import Usage
from stages.wire.json import encode

BYTES_PER_TOKEN = 4
_ATTACHED = ("image_url", "file")
# What vision models make of an image of about a megapixel, which is what clients scale them to:
# 1,600 on Claude, 1,300 in patches of 28 pixels, 765 to 1,105 on GPT-4o.
TOKENS_PER_ATTACHMENT = 1_300


def usage(told: dict[str, Any]) -> Usage:
    """A Chat Completions `usage`. There `prompt_tokens` includes the cached ones; here not."""
    details = mapping(told.get("prompt_tokens_details"))
    read = count(details.get("cached_tokens")) or count(told.get("prompt_cache_hit_tokens"))
    written = count(details.get("cache_write_tokens")) or count(details.get("created_cache_tokens"))
    prompt = count(told.get("prompt_tokens")) - read - written
    if not details and not read:  # Claude on Databricks counts them as the Messages API does
        read = count(told.get("cache_read_input_tokens"))
        written = count(told.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=max(0, prompt),
        output_tokens=count(told.get("completion_tokens")),
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        thinking_tokens=count(
            mapping(told.get("completion_tokens_details")).get("reasoning_tokens")
        ),
    )


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


def completed(told: Usage, estimate: int, characters: int) -> Usage:
    """What was `told`, with estimates in the place of what was not, and marked then.

    `estimate` is of the prompt, in tokens; `characters` are those of the answer.
    """
    if told.prompt_tokens and told.output_tokens:
        return told
    if not told.prompt_tokens:
        told = evolve(told, input_tokens=estimate)
    output = told.output_tokens or estimated_output(characters)
    return evolve(told, output_tokens=output, estimated=True)


def estimated_output(characters: int) -> int:
    """About how many tokens an answer of so many characters took, at least 1."""
    return characters // BYTES_PER_TOKEN + 1
