"""Refusals of a backend, and the errors they become."""

from __future__ import annotations

import json
from typing import Any

from multidict import CIMultiDict

from stages.chat_completions.errors import error_from_status
from stages.messages_api.errors import ApiError


def refused(status: int, body: Any, **headers: str) -> ApiError:
    """The error for a refusal with this status, body and headers (`retry_after`: `retry-after`)."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_from_status("local", status, CIMultiDict(named), data)


def openai(message: Any, **members: Any) -> dict[str, Any]:
    """An error as OpenAI and most others write it."""
    return {"error": {"message": message, "param": None, **members}}


def texts(value: Any) -> list[str]:
    """All texts in a body, and in JSON within texts."""
    if isinstance(value, str):
        nested = texts(json.loads(value)) if value.startswith("{") else []
        return [value, *nested]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for item in inner for text in texts(item)]
