"""Lines of recordings."""

from __future__ import annotations

import json
from typing import Any

from stages.recording.lines import Line
from tests.support import body


def line(id: str = "req_1", **changes: Any) -> Line:
    """A line with the body `body(**changes)`, and no response."""
    return Line({"id": id}, {}, json.dumps(body(**changes)).encode(), None)
