"""Malformed requests: (name, body, status, error type, how the message starts).

Used on the stage alone and over real sockets, so each row is decided before any backend is called.
"""

from __future__ import annotations

import json

from tests.malformed.requests import RAW, REQUESTS
from tests.malformed.tools import TOOLS_AND_OPTIONS

MALFORMED: list[tuple[str, bytes, int, str, str]] = [
    *((name, body, 400, "invalid_request_error", start) for name, body, start in RAW),
    *(
        (name, json.dumps(value).encode(), 400, "invalid_request_error", start)
        for name, value, start in (*REQUESTS, *TOOLS_AND_OPTIONS)
    ),
]
