"""Ids that no other request or answer has."""

from __future__ import annotations

import os


def new_request_id() -> str:
    """The id of a request, for the client, the log, and whoever asks about it."""
    return f"req_{os.urandom(12).hex()}"


def new_message_id() -> str:
    """The id of an answer."""
    return f"msg_proxy_{os.urandom(12).hex()}"
