"""Exchanges and rows to record."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from stages.exchange import Attempt, Exchange, Target
from stages.messages_api.usage import Usage
from stages.usage.rows import DAY, Row

BIG, SMALL = Target("gpu", "big"), Target("cpu", "small")
TODAY = 20_000
NOW = TODAY * 86_400.0 + 3600


def attempt(target: Target = BIG, error: str = "", usage: Usage | None = None) -> Attempt:
    """An attempt of two seconds whose first byte came after one."""
    now = time.monotonic()
    return Attempt(target, sent=now - 2, first_byte=now - 1, ended=now, error=error, usage=usage)


def exchange(*attempts: Attempt, **changes: Any) -> Exchange:
    """An exchange that has ended."""
    fields: dict[str, Any] = {
        "id": "req_1",
        "client": "key-1",
        "session": "s-1",
        "agent": "a-1",
        "pipeline": "messages",
        "model": "claude-x",
        "status": 200,
        "outcome": "complete",
        "ended": time.monotonic(),
    }
    return Exchange(attempts=list(attempts), **{**fields, **changes})


def row(day: int = TODAY, **changes: Any) -> Row:
    """A row of that day."""
    fields = Row(
        time=day * DAY + 1000,
        request="req_1",
        number=1,
        session="s-1",
        agent="",
        parent_agent="",
        key="key-1",
        pipeline="messages",
        backend="gpu",
        asked_model="claude-x",
        model="big",
        outcome="complete",
        error="",
        status=200,
        queue_ms=None,
        first_byte_ms=100,
        total_ms=1500,
        input_tokens=10,
        cache_read_tokens=5,
        cache_write_tokens=0,
        output_tokens=20,
        estimated=False,
    )
    return fields._replace(**changes)


def query(file: Path, sql: str) -> list[tuple[Any, ...]]:
    """Read the file as another program does."""
    connection = sqlite3.connect(file)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()
