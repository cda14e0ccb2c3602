"""The differences of two JSON objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from attrs import frozen

_MAX_TEXT = 72  # characters of a value
_ABSENT = object()


@frozen
class Change:
    """One member that a stage added, changed or removed. `path` is as `tools[0].name`."""

    what: Literal["added", "changed", "removed"]
    path: str
    before: Any = None
    after: Any = None

    def as_json(self) -> dict[str, Any]:
        """The change; an absent value has no member."""
        values = {"before": self.before, "after": self.after}
        absent = {"added": "before", "removed": "after"}.get(self.what)
        present = {name: value for name, value in values.items() if name != absent}
        return {"what": self.what, "path": self.path, **present}


def changes(before: Any, after: Any, path: str = "") -> Iterator[Change]:
    """Yield the changes from `before` to `after`: in objects by member, in lists by item.

    A list that became longer or shorter is one change.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            where = f"{path}.{name}" if path else str(name)
            if name not in after:
                yield Change("removed", where, before=before[name])
            elif name not in before:
                yield Change("added", where, after=after[name])
            else:
                yield from changes(before[name], after[name], where)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for n, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from changes(old, new, f"{path}[{n}]")
    elif before != after or type(before) is not type(after):
        yield Change("changed", path, before, after)


def in_short(value: Any) -> str:
    """Give a value on one line: messages by their roles, tools by their names, with the size."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if len(text) <= _MAX_TEXT:
        return text
    size = f"{len(text.encode()):,} bytes"
    if isinstance(value, list):
        names = [_name(item) for item in value]
        if all(names):
            listed = ", ".join(names)
            more = f", … {len(names)} in all" if len(listed) > _MAX_TEXT else ""
            return f"[{listed[:_MAX_TEXT]}{more}] ({size})"
    return f"{text[:_MAX_TEXT]}… ({size})"


def _name(item: Any) -> str:
    """The role of a message, the name of a tool, or the type of a block."""
    if not isinstance(item, dict):
        return ""
    function = item.get("function")
    inner = function.get("name") if isinstance(function, dict) else None
    name = item.get("role") or item.get("name") or inner or item.get("type")
    return name if isinstance(name, str) else ""
