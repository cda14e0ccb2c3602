"""llama.cpp speaks the Messages API itself: the same request to it and through the proxy.

It is an independent second opinion about the protocol and about what the model was asked. Where
the two differ is listed here, with the reason; any other difference fails.
"""

from __future__ import annotations

import fnmatch
from itertools import groupby
from typing import Any

import httpx2
import pytest
from attrs import frozen

from tests.grammar import parse_sse
from tests.real.support import HELLO, Real, embedded_url
from tests.real.test_sdk import ASKED, WEATHER
from tests.sdk_types import check_sent

COUNTING: Any = [
    {"role": "user", "content": "Count from 1 to 9."},
    {"role": "assistant", "content": "1, 2, 3, 4"},
]
RESULT: Any = [
    *ASKED,
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "x"}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "Sunny"}]},
]
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {"messages": HELLO},
    "limit": {"messages": HELLO, "max_tokens": 3},
    "system": {"messages": HELLO, "system": "Be brief."},
    "prefill": {"messages": COUNTING},
    "stop": {"messages": HELLO, "stop_sequences": ["lo"]},
    "tools": {"messages": ASKED, "tools": [WEATHER]},
    "forced": {"messages": ASKED, "tools": [WEATHER], "tool_choice": {"type": "any"}},
    "result": {"messages": RESULT, "tools": [WEATHER]},
}

# With tools in the prompt the words were seen to differ though as many tokens were read; what
# tips them over (the cache, or `parallel_tool_calls`, which the proxy sends) is not known.
_SAID = "content.*|text|types.*|stop_reason|delta.*"
_TIPPED = "the same prompt, by its length, and other words"

# By a request's name and a path, both patterns. "|" parts the paths of one reason.
KNOWN = {
    ("*", "id|start.id|content.*.id|start.usage.output_tokens"): (
        "it makes ids as its Chat Completions do; it begins with no tokens, which clients refuse"
    ),
    ("*", "stop_details|start.*|delta.*"): ("it omits members that the SDK's types have"),
    ("*", "usage.*"): "the same; and what is read from the cache depends on who asked before",
    ("prefill", "content.0.text"): (
        "it begins with the begun answer once more, which its own stream does not, nor the API"
    ),
    ("stop", "stop_reason|stop_sequence|delta.stop_*"): (
        "it says `end_turn` and also the sequence it stopped at; only one of them can be right"
    ),
    ("tools", _SAID): _TIPPED,
    ("result", _SAID): _TIPPED,
    ("forced", "*"): "it does not force a call; the proxy begins the call for the model",
}


# Of these the usage cannot be the same: a call is begun; the backend is left at the stop sequence,
# before it reports usage.
_NO_USAGE = ("forced", "stop")


@frozen
class Opinions:
    """One request's two answers."""

    own: httpx2.Response
    proxied: httpx2.Response


async def opinions(real: Real, path: str = "/v1/messages", **request: Any) -> Opinions:
    body = {"model": "smollm2", "max_tokens": 12, "temperature": 0, **request}
    async with httpx2.AsyncClient(timeout=120) as client:
        # The proxy first: it is to open the model, in its own event loop.
        proxied = await client.post(f"{real.url}{path}", json=body)
        own = await client.post(f"{await embedded_url(real)}{path}", json=body)
        return Opinions(own, proxied)


def flat(value: Any, place: str = "") -> dict[str, Any]:
    """The scalars in a JSON value by their paths."""
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = dict(enumerate(value)).items()
    else:
        return {place: value}
    inner = [flat(each, f"{place}.{name}" if place else str(name)) for name, each in members]
    return {path: scalar for each in inner for path, scalar in each.items()}


def unexplained(name: str, own: dict[str, Any], proxied: dict[str, Any]) -> dict[str, Any]:
    """What differs between two answers and is not in KNOWN."""
    mine, its = flat(proxied), flat(own)
    return {
        path: (its.get(path, "absent"), mine.get(path, "absent"))
        for path in its.keys() | mine.keys()
        if its.get(path, "absent") != mine.get(path, "absent") and not _is_known(name, path)
    }


def _is_known(name: str, path: str) -> bool:
    return any(
        fnmatch.fnmatch(name, request) and fnmatch.fnmatch(path, pattern)
        for request, paths in KNOWN
        for pattern in paths.split("|")
    )


def gist(events: list[dict[str, Any]]) -> dict[str, Any]:
    """A stream as one value: its events in order, its text, its first and last facts."""
    types = [event["type"] for event in events]
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    blocks = [event["content_block"] for event in events if "content_block" in event]
    (ending,) = (event for event in events if event["type"] == "message_delta")
    return {
        "types": [kind for kind, _ in groupby(types)],
        "content": blocks,
        "text": "".join(each.get("text") or each.get("partial_json") or "" for each in deltas),
        "start": events[0]["message"],
        "delta": ending["delta"],
        "usage": ending["usage"],
    }


def read(usage: dict[str, Any]) -> int:
    return int(usage["input_tokens"]) + int(usage["cache_read_input_tokens"])


# The prompt of a request does not depend on `stream`, so the slow ones are only streamed.
@pytest.mark.parametrize("name", ["plain", "limit", "prefill", "stop", "forced"])
async def test_unstreamed_responses_are_the_same(name: str, real: Real) -> None:
    both = await opinions(real, **REQUESTS[name])
    own, proxied = both.own.json(), both.proxied.json()
    check_sent(proxied)
    assert not unexplained(name, own, proxied)
    if name not in _NO_USAGE:
        assert read(proxied["usage"]) == read(own["usage"])
        assert proxied["usage"]["output_tokens"] == own["usage"]["output_tokens"]


@pytest.mark.parametrize("name", REQUESTS)
async def test_streams_are_the_same(name: str, real: Real) -> None:
    both = await opinions(real, stream=True, **REQUESTS[name])
    own = gist(parse_sse(both.own.content.replace(b"\n\n\n", b"\n\n")))
    proxied = gist(parse_sse(both.proxied.content))
    assert not unexplained(name, own, proxied)
    if name not in _NO_USAGE:
        assert read(proxied["usage"]) == read(own["start"]["usage"])
        if name not in ("tools", "result"):
            assert proxied["usage"]["output_tokens"] == own["usage"]["output_tokens"]


@pytest.mark.parametrize("name", [name for name in REQUESTS if name != "forced"])
async def test_token_counts_are_the_same(name: str, real: Real) -> None:
    given = {key: value for key, value in REQUESTS[name].items() if key != "max_tokens"}
    both = await opinions(real, "/v1/messages/count_tokens", **given)
    assert both.proxied.json() == both.own.json()


async def test_a_prompt_that_is_too_long_has_the_same_numbers(real: Real) -> None:
    """Its own answer is a Chat Completions error, which no client of the Messages API knows."""
    both = await opinions(real, messages=[{"role": "user", "content": "hi " * 9000}])
    assert (both.own.status_code, both.proxied.status_code) == (400, 400)
    error = both.own.json()["error"]
    check_sent(both.proxied.json())
    says = f"prompt is too long: {error['n_prompt_tokens']} tokens > {error['n_ctx']} maximum"
    assert both.proxied.json()["error"]["message"] == says
