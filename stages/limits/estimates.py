"""Estimates what a request will use, from what earlier requests of its key used.

    estimate              before any request    later
    -------------------   -------------------   ----------------------------------------------
    tokens of a prompt    bytes / 4             bytes * the mean of tokens / bytes
    its uncached part     all of it             bytes * the mean of uncached tokens / bytes
    tokens of a response  1,000                 exceeded by 5 % of the responses
    the backend's time    0 s                   exceeded by 5 % of the responses

The latest 64 requests of a key count. A response has at most `max_tokens`, which is a poor estimate
alone: Claude Code asks for 32,000 tokens and uses 300. An estimate only reserves: the real use
replaces it when the request ends. So a key can exceed a limit by what its running requests use
above their estimates.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from attrs import Factory, define, field, frozen

from stages.events import Resolved
from stages.messages_api.blocks import Base64Source, DocumentBlock, ImageBlock, walk

_BYTES_PER_TOKEN = 4
#: Base64 of an image counts as this many bytes; see chat_completions/usage.py.
_ATTACHMENT_BYTES = 1_300 * _BYTES_PER_TOKEN
#: Bytes of a body that may have an image.
_MIN_ATTACHED = 10_000
_FIRST_OUTPUT = 1_000
_REMEMBERED = 64
#: Keys are in the config, but may be renamed by reloads.
_MAX_KEYS = 1_000


@frozen
class Use:
    """Tokens of one or more attempts, and the backend's seconds."""

    input_tokens: int = 0
    """Without those read from a cache and written to one."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0


def _sample() -> deque[float]:
    return deque(maxlen=_REMEMBERED)


@define(eq=False)
class _Recent:
    """The latest requests of one key."""

    prompt_rate: deque[float] = Factory(_sample)
    """Tokens of the prompt by its bytes."""
    uncached_rate: deque[float] = Factory(_sample)
    output: deque[float] = Factory(_sample)
    seconds: deque[float] = Factory(_sample)


@define(eq=False)
class Estimates:
    """The estimates of one process."""

    _keys: OrderedDict[str, _Recent] = field(default=Factory(OrderedDict), init=False)
    """The least recently used key first."""

    def estimate(self, key: str, size: int, max_tokens: int | None) -> Use:
        """Estimate a request with a prompt of `size` bytes."""
        recent = self._keys.get(key) or _Recent()
        prompt = round(size * _mean(recent.prompt_rate, 1 / _BYTES_PER_TOKEN))
        uncached = round(size * _mean(recent.uncached_rate, 1 / _BYTES_PER_TOKEN))
        output = int(_high(recent.output, _FIRST_OUTPUT))
        return Use(
            input_tokens=uncached,
            cache_read_tokens=prompt - uncached,
            output_tokens=output if max_tokens is None else min(output, max_tokens),
            seconds=_high(recent.seconds, 0),
        )

    def learn(self, key: str, size: int, used: Use) -> None:
        """Learn what a response to a prompt of `size` bytes used."""
        recent = self._keys.pop(key, None) or _Recent()
        self._keys[key] = recent
        if len(self._keys) > _MAX_KEYS:
            self._keys.popitem(last=False)
        uncached = used.input_tokens + used.cache_write_tokens
        recent.prompt_rate.append((uncached + used.cache_read_tokens) / max(size, 1))
        recent.uncached_rate.append(uncached / max(size, 1))
        recent.output.append(used.output_tokens)
        recent.seconds.append(used.seconds)


def _mean(values: deque[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _high(values: Iterable[float], default: float) -> float:
    """The 95th percentile."""
    ordered = sorted(values)
    return ordered[len(ordered) * 95 // 100] if ordered else default


def prompt_bytes(event: Resolved) -> int:
    """The bytes of a prompt. Each image or file counts as a constant number of bytes."""
    if event.size < _MIN_ATTACHED:
        return event.size
    attached = [
        len(block.source.data)
        for message in event.request.messages
        for block in walk(message.content)
        if isinstance(block, (ImageBlock, DocumentBlock)) and isinstance(block.source, Base64Source)
    ]
    return max(0, event.size - sum(attached)) + len(attached) * _ATTACHMENT_BYTES
