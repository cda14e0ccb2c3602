"""Ids that no other request or answer has."""

from __future__ import annotations

import secrets


def new_request_id() -> str:
    """The id of a request, for the client, the log, and whoever asks about it."""
    return f"req_{secrets.token_hex(12)}"


def new_message_id() -> str:
    """The id of an answer."""
    return f"msg_proxy_{secrets.token_hex(12)}"
