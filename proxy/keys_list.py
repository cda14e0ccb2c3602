"""The list of `llm-proxy keys list`, as JSON and as a table."""

from __future__ import annotations

import json
from typing import Any

import attrs

from pipeline.config.text_width import pad, text_width
from proxy.keys import Keys, Stored

_COLUMNS = ("name", "sha256", "models", "limits", "created", "expires", "state")


def as_json(keys: Keys) -> str:
    """Give the keys as a JSON list, without the digests."""
    return json.dumps([_row(name, each) for name, each in keys.keys.items()], indent=2)


def as_table(keys: Keys) -> str:
    """Give the keys as a table for people."""
    if not keys.keys:
        return "no keys; `llm-proxy keys new NAME` makes one"
    rows = [list(_COLUMNS)]
    for name, stored in keys.keys.items():
        row = _row(name, stored)
        row["models"] = "all" if row["models"] is None else ", ".join(row["models"]) or "none"
        row["limits"] = ", ".join(f"{k}: {v:g}" for k, v in row["limits"].items())
        rows.append([row[column] or "-" for column in _COLUMNS])
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(pad, row, widths)).rstrip() for row in rows)


def _row(name: str, stored: Stored) -> dict[str, Any]:
    key = stored.key
    state = "disabled" if key.disabled else "expired" if key.expired else "active"
    return {
        "name": name,
        "sha256": f"{key.sha256[:8].lower()}…",
        "models": key.models if key.models is None else list(key.models),
        "limits": attrs.asdict(
            key.limits, filter=lambda field, value: bool(field.init) and value != field.default
        ),
        "created": key.created,
        "expires": key.expires,
        "state": state,
        "file": str(stored.file),
    }
