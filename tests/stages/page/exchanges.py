"""Exchanges for tests of the page. Times are seconds of the test's own clock."""

from __future__ import annotations

from typing import Any

from stages.exchange import Attempt, Degradation, Exchange, Repeat, StageRun, Target
from stages.messages_api.usage import Usage

GPU, SPARE = Target("gpu", "coder", label="gpu/coder"), Target("spare", "small")
USAGE = Usage(input_tokens=100, output_tokens=11, cache_read_input_tokens=300)


def ended(id: str = "req_1", received: float = 1000.0, **changes: Any) -> Exchange:
    """An exchange that failed at `gpu`, and got a stream from `spare` in 3 seconds."""
    t = received
    exchange = Exchange(
        id=id,
        pipeline="messages",
        method="POST",
        path="/v1/messages",
        session="session-1",
        agent="agent-1",
        client="key-1",
        model="claude-test",
        stream=True,
        degradations=(Degradation("top_k", "dropped", "top_k"),),
        attempts=[
            Attempt(GPU, t + 0.25, None, t + 0.5, "overloaded"),
            Attempt(SPARE, t + 0.5, t + 0.75, t + 3, "", USAGE),
        ],
        repeats=[Repeat("fallback", GPU, "overloaded"), Repeat("retry", None, "overloaded")],
        repaired_calls=["repaired"],
        status=200,
        stop_reason="end_turn",
        outcome="complete",
        received=t,
        queued=t + 0.125,
        accepted=t + 0.25,
        response_started=t + 0.75,
        first_token=t + 1,
        longest_gap=2.0,
        ended=t + 3,
        stages=[StageRun("authenticate", t, t + 0.125, t + 3), StageRun("invoke", t + 0.5)],
        stream_times=[t + 1, t + 3],
    )
    exchange.usage = USAGE
    for name, value in changes.items():
        setattr(exchange, name, value)
    return exchange
