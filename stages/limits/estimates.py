"""Estimates what a request will use, from what earlier requests of its key used.

    estimate              before any request    later
    -------------------   -------------------   ----------------------------------------------
    tokens of a prompt    bytes / 4             bytes * the mean of tokens / bytes
    its uncached part     all of it             bytes * the mean of uncached tokens / bytes
    tokens of a response  1,000                 exceeded by 5 % of the responses
    the backend's time    0 s                   exceeded by 5 % of the responses

The latest 64 requests of a key count, and after those each fourth one. After the first eight, the
estimates follow every 16th. A response has at most `max_tokens`, which is a poor estimate alone:
Claude Code asks for 32,000 tokens and uses 300. An estimate only reserves: the real use replaces it
when the request ends. So a key can exceed a limit by what its running requests use above their
estimates.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from attrs import Factory, define, field

from stages.events import Resolved
from stages.limits.use import Use, make_use
from stages.messages_api.blocks import Base64Source, DocumentBlock, ImageBlock, walk

_BYTES_PER_TOKEN = 4
#: Base64 of an image counts as this many bytes; see chat_completions/usage.py.
_ATTACHMENT_BYTES = 1_300 * _BYTES_PER_TOKEN
#: Bytes of a body that may have an image.
_MIN_ATTACHED = 10_000
_FIRST_OUTPUT = 1_000
_REMEMBERED = 64
#: Requests after which each one changes the estimates, and between two computations from then on.
_FIRST, _EACH = 8, 16
#: Of a key with more requests than are remembered, one of this number counts: learning costs 3 us.
_SAMPLED = 4
#: Keys are in the config, but may be renamed by reloads.
_MAX_KEYS = 1_000


def _sample() -> deque[tuple[float, float, int, float]]:
    return deque(maxlen=_REMEMBERED)


@define(eq=False)
class _Recent:
    """The latest requests of one key, and what follows from them."""

    uses: deque[tuple[float, float, int, float]] = Factory(_sample)
    """Tokens of the prompt by its bytes, of its uncached part by its bytes; tokens of the response;
    seconds."""
    number: int = 0
    prompt_rate: float = 1 / _BYTES_PER_TOKEN
    uncached_rate: float = 1 / _BYTES_PER_TOKEN
    output: int = _FIRST_OUTPUT
    seconds: float = 0.0

    def learn(self, size: int, used: Use) -> None:
        self.number += 1
        if self.number > _REMEMBERED and self.number % _SAMPLED:
            return
        uncached = used.input_tokens + used.cache_write_tokens
        rates = (uncached + used.cache_read_tokens) / size, uncached / size
        self.uses.append((*rates, used.output_tokens, used.seconds))
        if self.number <= _FIRST or self.number % _EACH == 0:
            prompt, cached, output, seconds = zip(*self.uses, strict=True)
            self.prompt_rate, self.uncached_rate = _mean(prompt), _mean(cached)
            self.output, self.seconds = int(_high(output)), _high(seconds)


_NEW = _Recent()


@define(eq=False)
class Estimates:
    """The estimates of one process."""

    _keys: OrderedDict[str, _Recent] = field(default=Factory(OrderedDict), init=False)
    """The key that was added first comes first."""

    def estimate(self, key: str, size: int, max_tokens: int | None) -> Use:
        """Estimate a request with a prompt of `size` bytes."""
        recent = self._keys.get(key, _NEW)
        prompt = round(size * recent.prompt_rate)
        uncached = round(size * recent.uncached_rate)
        output = recent.output
        if max_tokens is not None and max_tokens < output:
            output = max_tokens
        return make_use((uncached, prompt - uncached, 0, output, recent.seconds))

    def prompt_tokens(self, key: str, size: int) -> int:
        """Estimate the tokens of a prompt of `size` bytes."""
        return round(size * self._keys.get(key, _NEW).prompt_rate)

    def learn(self, key: str, size: int, used: Use) -> None:
        """Learn what a response to a prompt of `size` bytes used."""
        recent = self._keys.get(key)
        if recent is None:
            recent = self._keys[key] = _Recent()
            if len(self._keys) > _MAX_KEYS:
                self._keys.popitem(last=False)
        recent.learn(size or 1, used)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _high(values: Sequence[float]) -> float:
    """The 95th percentile."""
    return sorted(values)[len(values) * 95 // 100]


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
