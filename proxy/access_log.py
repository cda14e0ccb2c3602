"""One line of the log for each request, rendered from its Exchange.

As text the line is `id METHOD path status seconds`, then `name=value` pairs; a path or value with
spaces or quotes is a JSON string. With LLM_PROXY_LOG_FORMAT=json it is a JSON object, and so is
each other line of the log. Names and values are the same in both.
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from stages.exchange import Exchange

log = logging.getLogger("llm_proxy")

_MAX_TEXT = 1000  # characters of a value: clients can name as many fields as they like
_PLAIN = re.compile(rf"[!#-<>-~]{{1,{_MAX_TEXT}}}")  # printable ASCII without space, quote and `=`


def log_exchange(exchange: Exchange) -> None:
    """Log an exchange that has ended."""
    if not log.isEnabledFor(logging.INFO):
        return
    path = _text(exchange.path) if exchange.path else ""
    seconds = f"{_seconds(exchange):.3f}s"
    pairs = [f"{name}={_text(value)}" for name, value in _fields(exchange).items()]
    words = (exchange.id, exchange.method, path, str(exchange.status), seconds, *pairs)
    log.info(" ".join(words), extra={"exchange": exchange})


def _seconds(exchange: Exchange) -> float:
    return (exchange.ended or exchange.received) - exchange.received


def _json_fields(exchange: Exchange) -> dict[str, Any]:
    return {
        "id": exchange.id,
        "method": exchange.method,
        "path": exchange.path,
        "status": exchange.status,
        "seconds": round(_seconds(exchange), 3),
        **_fields(exchange),
    }


def _fields(exchange: Exchange) -> dict[str, Any]:
    """The fields that have a value. Each request pays for this, so it calls few functions."""
    fields: dict[str, Any] = {
        "client": exchange.client,
        "session": exchange.session,
        "agent": exchange.agent,
        "parent_agent": exchange.parent_agent,
        "model": exchange.model,
        "trace_id": exchange.trace_id,
    }
    fields = {name: value for name, value in fields.items() if value}
    _add_response(fields, exchange)
    if exchange.repeats or exchange.degradations or exchange.repaired_calls:
        _add_changes(fields, exchange)
    if exchange.error:
        fields["error"], fields["message"] = exchange.error, exchange.message
    if refusal := exchange.refused_by:
        fields["limit"], fields["account"] = refusal.limit, refusal.account
    if exchange.outcome not in ("complete", "error"):
        fields["outcome"] = exchange.outcome
    return fields


def _add_response(fields: dict[str, Any], exchange: Exchange) -> None:
    if target := exchange.target:
        fields["backend"] = target.backend
        if target.model != exchange.model:
            fields["backend_model"] = target.model
    if usage := exchange.usage:
        fields["prompt"] = usage.prompt_tokens
        fields["cached"] = usage.cache_read_input_tokens
        fields["output"] = usage.output_tokens
        if usage.estimated:
            fields["estimated"] = True
    if exchange.stop_reason:
        fields["stop_reason"] = exchange.stop_reason
    if exchange.queued is not None and exchange.accepted is not None:
        fields["waited"] = round(exchange.accepted - exchange.queued, 3)
    if exchange.first_token is not None:
        fields["first_token"] = round(exchange.first_token - exchange.received, 3)


def _add_changes(fields: dict[str, Any], exchange: Exchange) -> None:
    if exchange.repeats:
        fields["repeats"] = ",".join(
            f"{each.stage}:{each.target.backend if each.target else '*'}:{each.error}"
            for each in exchange.repeats
        )
    if exchange.degradations:
        fields["degraded"] = ",".join(map(str, exchange.degradations))
    if exchange.repaired_calls:
        fields["repaired"] = ",".join(exchange.repaired_calls)


def _text(value: Any) -> str:
    if type(value) is not str:
        return "true" if value is True else str(value)
    if _PLAIN.fullmatch(value):
        return value
    text = value[:_MAX_TEXT]
    if text.isprintable() and not any(sign in text for sign in ' "=') and text:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


class JsonFormatter(logging.Formatter):
    """Each line as a JSON object: `time`, `level`, and either the fields or `message`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        exchange = getattr(record, "exchange", None)
        fields = _json_fields(exchange) if exchange else {"message": record.getMessage()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        time = self.formatTime(record, "%Y-%m-%dT%H:%M:%S")
        line = {"time": f"{time}.{int(record.msecs):03d}", "level": record.levelname.lower()}
        return json.dumps(line | fields, ensure_ascii=False, default=str)
