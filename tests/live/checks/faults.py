"""Disconnects, keys, restarts. They come last: they disturb the server."""

from __future__ import annotations

import time

import anthropic
import anyio

from tests.live.checks import Checks
from tests.live.environment import say
from tests.live.requests import Live, error, user

CHECKS = Checks()


@CHECKS.add("the client disconnects", "the server is free again")
async def _disconnects(live: Live) -> str:
    asked = user("Write a very long story about a dragon and a king.")
    busy, events = 0, 0
    async with live.stream(max_tokens=1500, messages=asked) as stream:
        async for _ in stream:
            events += 1
            if events == 8:
                busy = await anyio.to_thread.run_sync(live.server.requests_running)
                break
    if not busy:
        return "the server was not busy while it streamed"
    began = time.monotonic()
    while await anyio.to_thread.run_sync(live.server.requests_running):
        if time.monotonic() - began > 5:
            return "the server still works on it after 5 s"
        await anyio.sleep(0.05)
    return "the server is free again"


@CHECKS.add("wrong key at the server", "*, not retried: *key*")
async def _wrong_key(live: Live) -> str:
    return str((await live.whole(model="wrong-key")).stop_reason)


@CHECKS.add("server killed", "retryable, then ready again")
async def _restarted(live: Live) -> str:
    """Kill it, ask, start it, and ask on until it answers: each error has to be retryable."""
    live.server.kill()
    seen = [await _status(live)]
    live.server.start()
    began = time.monotonic()
    while seen[-1] != "answered":
        live.server.alive()
        if time.monotonic() - began > live.server.server.start_limit:
            return f"not ready again: {sorted(set(seen))}"
        await anyio.sleep(0.02)
        if (now := await _status(live)) != seen[-1]:
            seen.append(now)
    say("\n  ".join(("killed, then started again; the client sees:", *seen)))
    good = len(seen) > 1 and not any("not retried" in each for each in seen)
    return "retryable, then ready again" if good else "; ".join(seen)


async def _status(live: Live) -> str:
    try:
        await live.whole(max_tokens=1)
    except anthropic.APIStatusError as raised:
        return error(raised)
    return "answered"
