"""The `usage` object of the Messages API."""

from __future__ import annotations

from typing import Any

from pipeline.event import event


@event
class Usage:
    """The tokens of one request and its response.

    `input_tokens` excludes the tokens read from a cache and written to one.
    `estimated`: the backend did not report all of the counts.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    thinking_tokens: int = 0
    estimated: bool = False

    @property
    def prompt_tokens(self) -> int:
        """All tokens of the prompt, cached or not."""
        return self.input_tokens + self.cache_read_input_tokens + self.cache_creation_input_tokens

    def start(self) -> dict[str, Any]:
        """The members in `message_start`, before any output is counted."""
        return {
            **self._counts(),
            "cache_creation": self._cache_creation(),
            "service_tier": "standard",
        }

    def delta(self) -> dict[str, Any]:
        """The members in `message_delta`."""
        details = {"thinking_tokens": self.thinking_tokens}
        return {**self._counts(), "output_tokens_details": details}

    def message(self) -> dict[str, Any]:
        """The members in a message that is not a stream."""
        return {**self.start(), **self.delta()}

    def _counts(self) -> dict[str, int]:
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cache_creation_input_tokens,
            "cache_read_input_tokens": self.cache_read_input_tokens,
            "output_tokens": self.output_tokens,
        }

    def _cache_creation(self) -> dict[str, int]:
        """The tokens written to a cache, by the time that the cache keeps them.

        No backend reports that time. All tokens count for the API's default of five minutes:
        then the parts add up to `cache_creation_input_tokens`. The real API sends this object
        with nearly every message, and clients compute costs from it.
        """
        return {
            "ephemeral_5m_input_tokens": self.cache_creation_input_tokens,
            "ephemeral_1h_input_tokens": 0,
        }
