"""Random ids of requests and messages."""

from __future__ import annotations

import os


def new_request_id() -> str:
    """A new id of a request, for the client and the log."""
    return f"req_{os.urandom(12).hex()}"


def new_message_id() -> str:
    """A new id of a message."""
    return f"msg_proxy_{os.urandom(12).hex()}"
