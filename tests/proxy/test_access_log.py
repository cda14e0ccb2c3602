"""The log: one line for each request, from its Exchange."""

from __future__ import annotations

import json
import logging

import pytest

from proxy.access_log import JsonFormatter, log_exchange
from stages.exchange import Attempt, Degradation, Exchange, Repeat, Target
from stages.messages_api.usage import Usage

LOCAL = Target("local", "small", label="local/small")


def whole() -> Exchange:
    """An exchange with all there is to log."""
    return Exchange(
        id="req_1",
        method="POST",
        path="/v1/messages",
        client="key-1",
        session="s-1",
        agent="a-2",
        parent_agent="a-1",
        model="claude-x",
        trace_id="0af7651916cd43dd8448eb211c80319c",
        degradations=(Degradation("top_k", "dropped", "top_k"),),
        attempts=[Attempt(LOCAL, sent=10.5)],
        repeats=[Repeat("retry", None, "overloaded"), Repeat("fallback", LOCAL, "timeout")],
        repaired_calls=["found", "coerced"],
        usage=Usage(10, 3, 8, 2, estimated=True),
        stop_reason="end_turn",
        status=200,
        outcome="complete",
        received=10.0,
        queued=10.25,
        accepted=10.5,
        first_token=11.0,
        ended=12.5,
    )


def logged(exchange: Exchange, caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    caplog.set_level(logging.INFO, "llm_proxy")
    log_exchange(exchange)
    [record] = caplog.records
    return record


def test_a_line_has_all_fields(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(whole(), caplog).getMessage() == (
        "req_1 POST /v1/messages 200 2.500s client=key-1 session=s-1 agent=a-2 parent_agent=a-1 "
        "model=claude-x trace_id=0af7651916cd43dd8448eb211c80319c "
        "backend=local backend_model=small prompt=20 cached=8 output=3 "
        "estimated=true stop_reason=end_turn waited=0.25 first_token=1.0 "
        "repeats=retry:*:overloaded,fallback:local:timeout degraded=top_k:dropped "
        "repaired=found,coerced"
    )


def test_the_same_fields_are_in_json(caplog: pytest.LogCaptureFixture) -> None:
    record = logged(whole(), caplog)

    line = json.loads(JsonFormatter().format(record))

    assert line["level"] == "info"
    assert (line["id"], line["status"], line["seconds"]) == ("req_1", 200, 2.5)
    for pair in record.getMessage().split(" ")[5:]:
        name, _, value = pair.partition("=")
        assert str(line[name]).lower() == value.lower()


def test_an_exchange_without_a_response_has_its_outcome(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange("req_1", received=1, ended=1.5, outcome="client_disconnected")

    assert logged(exchange, caplog).getMessage() == ("req_1   0 0.500s outcome=client_disconnected")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("two words", '"two words"'),
        ('a="b"', '"a=\\"b\\""'),
        ("req_2 POST\n", '"req_2 POST\\n"'),
        ("ended: …", '"ended: …"'),
        ("… \u202e", '"\\u2026 \\u202e"'),
        ("x" * 5000, "x" * 1000),
    ],
    ids=["a space", "quotes", "a line break", "readable", "a change of direction", "long"],
)
def test_no_client_can_forge_a_field(
    value: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = logged(Exchange(model=value, ended=1), caplog).getMessage()

    assert f" model={text}" in line
    assert "\n" not in line


def test_no_client_can_forge_a_status_in_the_path(caplog: pytest.LogCaptureFixture) -> None:
    exchange = Exchange("req_1", method="GET", path="/x 200 0.1s client=a", status=404, ended=1)

    line = logged(exchange, caplog).getMessage()

    assert line.startswith('req_1 GET "/x 200 0.1s client=a" 404 ')


def test_other_lines_are_json_too() -> None:
    record = logging.LogRecord("llm_proxy", logging.WARNING, "", 0, "no %s", ("way",), None)

    line = json.loads(JsonFormatter().format(record))

    assert (line["level"], line["message"]) == ("warning", "no way")
    assert line["time"][4] == "-"
