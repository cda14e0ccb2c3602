"""Token usage: what a backend tells, in the Messages API's way of counting, or an estimate."""

from __future__ import annotations

from typing import Any

from stages.events import ChatRequest
from stages.translation.shapes import count, mapping
from stages.wire.events import Usage
from stages.wire.json import encode

_BYTES_PER_TOKEN = 4


def usage(told: dict[str, Any]) -> Usage:
    """A Chat Completions `usage`. There `prompt_tokens` includes the cached ones; here not."""
    details = mapping(told.get("prompt_tokens_details"))
    read = count(details.get("cached_tokens")) or count(told.get("prompt_cache_hit_tokens"))
    written = count(details.get("cache_write_tokens")) or count(details.get("created_cache_tokens"))
    prompt = count(told.get("prompt_tokens"))
    return Usage(
        input_tokens=max(0, prompt - read - written),
        output_tokens=count(told.get("completion_tokens")),
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        thinking_tokens=count(
            mapping(told.get("completion_tokens_details")).get("reasoning_tokens")
        ),
    )


def estimated_input(request: ChatRequest) -> int:
    """About how many tokens the backend will read: a quarter of the bytes, at least 1."""
    size = len(encode(request.messages)) + len(encode(request.options.get("tools", ())))
    return size // _BYTES_PER_TOKEN + 1


def estimated_output(characters: int) -> int:
    """About how many tokens an answer of so many characters took, at least 1."""
    return characters // _BYTES_PER_TOKEN + 1
