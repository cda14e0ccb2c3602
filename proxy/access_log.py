"""One line of the log for each request, rendered from its Exchange.

As text the line is `id METHOD path status seconds`, then `name=value` pairs; a value with spaces
or quotes is a JSON string. With LLM_PROXY_LOG_FORMAT=json it is a JSON object, and so is each
other line of the log. Names and values are the same in both.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

from stages.exchange import Exchange

log = logging.getLogger("llm_proxy")

_MAX_TEXT = 1000  # characters of a value: clients can name as many fields as they like


def log_exchange(exchange: Exchange) -> None:
    """Log an exchange that has ended."""
    if not log.isEnabledFor(logging.INFO):
        return
    seconds = (exchange.ended or exchange.received) - exchange.received
    fields = dict(_fields(exchange))
    log.info(
        "%s %s %s %d %.3fs%s",
        exchange.id,
        exchange.method,
        log_safe(exchange.path),
        exchange.status,
        seconds,
        "".join(f" {name}={_text(value)}" for name, value in fields.items()),
        extra={
            "fields": {
                "id": exchange.id,
                "method": exchange.method,
                "path": exchange.path,
                "status": exchange.status,
                "seconds": round(seconds, 3),
                **fields,
            }
        },
    )


def _fields(exchange: Exchange) -> Iterator[tuple[str, Any]]:
    """The fields that have a value."""
    for name in ("client", "session", "agent", "parent_agent", "model", "trace_id"):
        if value := getattr(exchange, name):
            yield name, value
    yield from _response(exchange)
    yield from _changes(exchange)
    if exchange.error:
        yield "error", exchange.error
        yield "message", exchange.message
    if refusal := exchange.refused_by:
        yield "limit", refusal.limit
        yield "account", refusal.account
    if exchange.outcome not in ("complete", "error"):
        yield "outcome", exchange.outcome


def _response(exchange: Exchange) -> Iterator[tuple[str, Any]]:
    if target := exchange.target:
        yield "backend", target.backend
        if target.model != exchange.model:
            yield "backend_model", target.model
    if usage := exchange.usage:
        yield "prompt", usage.prompt_tokens
        yield "cached", usage.cache_read_input_tokens
        yield "output", usage.output_tokens
        if usage.estimated:
            yield "estimated", True
    if exchange.stop_reason:
        yield "stop_reason", exchange.stop_reason
    if exchange.queued is not None and exchange.accepted is not None:
        yield "waited", round(exchange.accepted - exchange.queued, 3)
    if exchange.first_token is not None:
        yield "first_token", round(exchange.first_token - exchange.received, 3)


def _changes(exchange: Exchange) -> Iterator[tuple[str, str]]:
    if exchange.repeats:
        yield (
            "repeats",
            ",".join(
                f"{each.stage}:{each.target.backend if each.target else '*'}:{each.error}"
                for each in exchange.repeats
            ),
        )
    if exchange.degradations:
        yield "degraded", ",".join(map(str, exchange.degradations))
    if exchange.repaired_calls:
        yield "repaired", ",".join(exchange.repaired_calls)


def _text(value: Any) -> str:
    if value is True:
        return "true"
    text = str(value)[:_MAX_TEXT]
    if text.isprintable() and not any(sign in text for sign in ' "=') and text:
        return text
    return json.dumps(text)


def log_safe(text: str) -> str:
    """`text` without line breaks and control characters: clients must not forge a line."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


class JsonFormatter(logging.Formatter):
    """Each line as a JSON object: `time`, `level`, and either the fields or `message`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields = getattr(record, "fields", None) or {"message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        time = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {"time": f"{time}.{int(record.msecs):03d}", "level": record.levelname.lower()}
        return json.dumps(line | fields, ensure_ascii=False, default=str)
