"""The output limit, the window, and how tokens are counted."""

from __future__ import annotations

import re
from typing import Any

import anthropic
from anthropic.types import Message

from tests.live.checks import Checks
from tests.live.checks.tools import AGAIN, TIME, WEATHER
from tests.live.requests import Live, ending, error, prompt_tokens, text, user
from tests.live.servers import WINDOW

CHECKS = Checks()


@CHECKS.add("max_tokens 0", "max_tokens, 0 tokens, no text")
async def _zero(live: Live) -> str:
    message = await live.whole(max_tokens=0)
    said = text(message) or "no text"
    return f"{message.stop_reason}, {message.usage.output_tokens} tokens, {said}"


@CHECKS.add("max_tokens over the window", "end_turn")
async def _over(live: Live) -> str:
    return ending(await live.whole(max_tokens=100_000))


_TOO_LONG = "400 invalid_request_error, not retried: prompt is too long; no number is wrong"


async def _refused(live: Live, words: int) -> str:
    """The result of a prompt of `words` words.

    A word is a token, and the template adds fewer than 60. If the message has two numbers, clients
    shorten the prompt by their difference.
    """
    try:
        return ending(await live.whole(messages=user("word " * words)))
    except anthropic.APIStatusError as raised:
        seen = error(raised)
    claimed = re.search(r"(\d+) tokens > (\d+)", seen)
    right = claimed is None or (words <= int(claimed[1]) < words + 60 and int(claimed[2]) == WINDOW)
    beginning = _TOO_LONG.partition(";")[0]
    return _TOO_LONG if right and seen.startswith(beginning) else seen


@CHECKS.add("prompt over the window", _TOO_LONG)
async def _long_prompt(live: Live) -> str:
    return await _refused(live, 3_000)


@CHECKS.add("prompt of 2 million characters", _TOO_LONG)
async def _longest_prompt(live: Live) -> str:
    return await _refused(live, 400_000)


_REPORTED = "You are a gifted writer of very long fairy tales, full of details and dialogue. "


def _tale(times: int) -> dict[str, Any]:
    """A request for a long answer; the system prompt has some 17 tokens `times` over."""
    asked = user("Write a very long story about a dragon and a king.")
    return {"system": _REPORTED * times, "messages": asked}


_FULL = "model_context_window_exceeded, the window is full"


@CHECKS.add("answer that fills the window", _FULL)
async def _fills(live: Live) -> str:
    message = await live.whole(**_tale(108), max_tokens=512)
    return _fullness(message)


@CHECKS.add("answer that fills the window, streamed", _FULL)
async def _fills_streamed(live: Live) -> str:
    message = await live.streamed(**_tale(108), max_tokens=512)
    return _fullness(message)


def _fullness(message: Message) -> str:
    prompt, answer = prompt_tokens(message), message.usage.output_tokens
    full = WINDOW - 2 <= prompt + answer <= WINDOW + 1
    seen = "the window is full" if full else f"{prompt} and {answer} tokens of {WINDOW}"
    return f"{message.stop_reason}, {seen}"


@CHECKS.add("answer after 60 short requests", "max_tokens, 600 tokens")
async def _calibrated(live: Live) -> str:
    for number in range(60):
        await live.whole(model="windowed", messages=user(f"What is number {number}?"), max_tokens=1)
    message = await live.whole(**_tale(36), model="windowed", max_tokens=600)
    return f"{message.stop_reason}, {message.usage.output_tokens} tokens"


@CHECKS.add("count_tokens", "as in the response")
async def _count(live: Live) -> str:
    bodies = (
        {"messages": user("Hello.")},
        {"system": "Be brief.", "messages": AGAIN, "tools": [WEATHER, TIME]},
        _tale(20),
    )
    pairs = []
    for body in bodies:
        message = await live.whole(**body, max_tokens=1)
        pairs.append((await live.count(**body), prompt_tokens(message)))
    same = all(counted == reported for counted, reported in pairs)
    return "as in the response" if same else f"(counted, in the response): {pairs}"
