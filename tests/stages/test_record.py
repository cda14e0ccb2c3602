"""The stage `record`, and the section `recordings`."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import anyio
import pytest

from pipeline.testing import check_stage, run_stage
from stages.events import Validated
from stages.messages_api.stream_events import BlockDelta, BlockStart, MessageStart
from stages.messages_api.usage import Usage
from stages.record import Record
from stages.recording.section import Recordings
from tests.support import body, http, request, validated


def recordings(folder: Path, **options: bool) -> Recordings:
    section = Recordings(**options)  # type: ignore[arg-type]
    section.locate(str(folder), {})
    return section


def test_it_keeps_the_rules_of_stages() -> None:
    anyio.run(check_stage, Record(), [validated()])


def test_an_exchange_is_recorded_when_it_ends(tmp_path: Path) -> None:
    section = recordings(tmp_path)
    headers = {"anthropic-beta": "x", "x-api-key": "key of a client", "cookie": "c"}
    asked = body(system="I am me@example.com")
    event = Validated(http(json.dumps(asked).encode(), headers=headers), request(), size=1000)
    exchange = event.exchange

    assert anyio.run(run_stage, Record(section), [event]) == [event]
    assert not list(tmp_path.iterdir())
    [add], [write] = exchange.on_stream_event, exchange.on_end
    add(MessageStart("msg_1", "m", Usage(), request()))
    add(BlockStart(0, {"type": "text", "text": ""}))
    add(BlockDelta(0, "text_delta", "Hello me@example.com"))
    exchange.outcome = "client_disconnected"
    write(exchange)
    section.close()

    [file] = (tmp_path / "recordings").iterdir()
    [text] = file.read_text().splitlines()
    value = json.loads(text)
    assert value.keys() == {"version", "exchange", "headers", "request", "response"}
    assert value["headers"] == {"anthropic-beta": "x"}
    assert value["request"] == {**asked, "system": "I am [redacted]"}
    assert value["response"]["content"] == [{"type": "text", "text": "Hello [redacted]"}]
    assert value["exchange"]["outcome"] == "client_disconnected"
    assert "key of a client" not in text


def test_it_may_record_everything(tmp_path: Path) -> None:
    section = recordings(tmp_path, redact=False)
    event = Validated(http(json.dumps(body(system="I am me@example.com")).encode()), request())
    anyio.run(run_stage, Record(section), [event])
    event.exchange.on_end[0](event.exchange)
    section.close()

    [file] = (tmp_path / "recordings").iterdir()
    assert "me@example.com" in file.read_text()


@pytest.mark.parametrize(
    ("folder", "environ", "path"),
    [
        ("", {}, "/etc/proxy/recordings"),
        ("", {"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a/recordings"),
        ("r", {"STATE_DIRECTORY": "/var/lib/a"}, "/etc/proxy/r"),
        ("/r", {}, "/r"),
    ],
)
def test_the_folder_is_in_the_state_folder_or_next_to_the_config(
    folder: str, environ: dict[str, str], path: str
) -> None:
    section = Recordings(folder)
    section.locate("/etc/proxy", environ)

    assert section.path == Path(path)


def test_a_reload_keeps_the_section_and_logs_what_needs_a_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = Recordings()

    with caplog.at_level(logging.WARNING, "llm_proxy"):
        assert running.keep(Recordings(redact=False)) is running

    assert caplog.messages == ["`recordings.redact` has changed: restart the proxy to apply it"]
