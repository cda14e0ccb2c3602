"""The stage `account`, and the section `usage`."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio
import pytest

from pipeline.testing import check_stage, run_stage
from stages.account import Account
from stages.usage.record import UsageRecord
from stages.usage.report import read_usage
from tests.cases import for_each
from tests.stages.usage.support import attempt, exchange
from tests.support import authenticated


def record(folder: Path, **options: str) -> UsageRecord:
    made = UsageRecord(**options)  # type: ignore[arg-type]
    made.locate(str(folder), {})
    return made


def test_it_keeps_the_rules_of_stages() -> None:
    anyio.run(check_stage, Account(), [authenticated()])


def test_an_exchange_is_recorded_when_it_ends(tmp_path: Path) -> None:
    usage = record(tmp_path)
    event = authenticated()
    anyio.run(run_stage, Account(usage), [event])
    [add] = event.exchange.on_end

    add(exchange(attempt(error="api"), attempt()))
    usage.close()

    [day] = read_usage(tmp_path / "usage.db", ["day"])
    assert (day.sums.requests, day.sums.attempts, day.sums.errors) == (1, 2, 1)


def test_a_request_that_reached_no_backend_makes_no_file(tmp_path: Path) -> None:
    usage = record(tmp_path)
    usage.add(exchange(outcome="error"))
    usage.close()

    assert not list(tmp_path.iterdir())


def test_it_records_again_after_it_was_closed(tmp_path: Path) -> None:
    usage = record(tmp_path)
    for _ in range(2):
        usage.add(exchange(attempt()))
        usage.close()

    assert read_usage(tmp_path / "usage.db", ["day"])[0].sums.attempts == 2


@for_each(
    ("file", "environ", "path"),
    [
        ("", {}, "/etc/proxy/usage.db"),
        ("", {"STATE_DIRECTORY": "/var/lib/llm-proxy"}, "/var/lib/llm-proxy/usage.db"),
        ("", {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a/usage.db"),
        ("data/u.db", {"STATE_DIRECTORY": "/var/lib/llm-proxy"}, "/etc/proxy/data/u.db"),
        ("/data/u.db", {}, "/data/u.db"),
    ],
)
def test_the_file_is_in_the_state_folder_or_next_to_the_config(
    file: str, environ: dict[str, str], path: str
) -> None:
    usage = UsageRecord(file)
    usage.locate("/etc/proxy", environ)

    assert usage.path == Path(path)


def test_a_reload_keeps_the_record_and_logs_what_needs_a_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = UsageRecord()

    with caplog.at_level(logging.WARNING, "llm_proxy"):
        assert running.keep(UsageRecord(attempt_days=3)) is running

    assert caplog.messages == ["`usage.attempt_days` has changed: restart the proxy to apply it"]
