"""Helpers of the tests of a translated response."""

from __future__ import annotations

from stages.messages_api import stream_events as e
from tests.stages.translation.support import (
    arguments,
)

PARIS, ROME = arguments(city="Paris"), arguments(city="Rome")
TWO = [("tool_use", "f", {"city": "Paris"}), ("tool_use", "g", {"city": "Rome"})]


def deltas(events: list[e.StreamEvent]) -> list[str]:
    return [event.text for event in events if isinstance(event, e.BlockDelta)]
