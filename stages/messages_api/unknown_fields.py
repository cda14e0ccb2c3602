"""Members of a request that the proxy does not read, by name, for the report to the client.

`stages.messages_api.structuring` adds the members of each object while it structures the object.
A name has the place of the object, without positions: `image.transformations`,
`thinking.block_binding`. A cache mark is `cache_control` at every place. Not reported:

- members of the API that change nothing here;
- members of tools that are dropped as a whole, because the tool itself is reported;
- members of blocks without a class, except for a cache mark;
- members that are empty, because they ask for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs
from attrs import Factory, define

from stages.messages_api import blocks as b
from stages.messages_api import request as m

#: At most this many names of nested members are kept: a client could make up any number.
_MAX_NESTED = 50
CACHE_CONTROL = "cache_control"
# Members that the API defines, and that cannot change the response of another backend.
_WITHOUT_EFFECT: dict[type, tuple[str, ...]] = {
    b.TextBlock: ("citations", "parsed_output"),  # of an earlier response; the latter by an SDK
    b.ToolUseBlock: ("caller",),
    b.ToolResultBlock: ("toolset_name",),  # the one of the call is read
    b.TextSource: ("media_type",),  # there is only one
    m.Tool: ("defer_loading", "eager_input_streaming", "display_number"),  # all tools are sent
}
# The prefixes of the types of tools that are not dropped as a whole; see `server_tools`.
_KEPT_TOOLS = (
    "custom",
    "bash_",
    "text_editor_",
    "memory_",
    "computer_",
    "browser_",
    "tool_search_tool_",
)
_TAGGED = {*b.BLOCKS.values(), *b.DOCUMENT_SOURCES.values()}
#: The members that are read at a place, if these are not all fields of the class.
_READ_AT = {"messages.output_config": frozenset({"effort"})}


def read_fields(cls: type, place: str) -> frozenset[str]:
    """The members of an object at `place` that are read, or that have no effect."""
    names = {field.name for field in attrs.fields(cls) if field.name != "unknown_fields"}
    names.update(_WITHOUT_EFFECT.get(cls, ()), ("type",) if cls in _TAGGED else ())
    return _READ_AT.get(place, frozenset(names))


@define
class UnknownFields:
    """The names that were added for one request, each once, in the order of the objects."""

    _names: dict[str, None] = Factory(dict)
    _top_level: int = 0

    def add(self, value: Mapping[str, Any], place: str, read: frozenset[str]) -> None:
        """Add the unknown members of an object at `place`; "" is the request, which is first."""
        if place == "tools" and not _is_kept(value.get("type") or "custom"):
            return
        for name, member in value.items():
            if name not in read and _asks(member):
                nested = place and name != CACHE_CONTROL
                self._names[f"{place}.{name}" if nested else name] = None
        if not place:
            container = value.get("container")
            if isinstance(container, dict) and container.get("skills"):
                self._names["container.skills"] = None
            self._top_level = len(self._names)

    def add_names(self, names: Iterable[str]) -> None:
        """Add the names of a part that was structured before."""
        self._names.update(dict.fromkeys(names))

    def add_cache_control(self) -> None:
        """Add a cache mark of a block without a class."""
        self._names[CACHE_CONTROL] = None

    def names(self) -> tuple[str, ...]:
        """The names, those of top-level members first."""
        if not self._names:
            return ()
        kept = list(self._names)[: self._top_level + _MAX_NESTED]
        return (*kept, *({CACHE_CONTROL} & self._names.keys() - set(kept)))


def _is_kept(kind: Any) -> bool:
    return isinstance(kind, str) and kind.startswith(_KEPT_TOOLS)


def _asks(value: Any) -> bool:
    """Whether a member asks for anything: `null`, `""`, `[]`, `{}` and `{"edits": []}` do not."""
    if isinstance(value, dict):
        return any(map(_asks, value.values()))
    return value is not None and value not in ("", [])
