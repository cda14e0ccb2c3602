"""Members of a request that nothing here reads, by name, so that the client can be told.

A member is named by what it stands in, without positions: `image.transformations`,
`thinking.block_binding`; a mark for the cache is `cache_control` wherever it stands. Members
of the API that change nothing here are known too, and not named. Of blocks and tools that are
left out as a whole, that is told, and not what was in them. A member that is present but empty
asks for nothing, and is not named.
"""

from __future__ import annotations

from typing import Any

import attrs

from stages.messages_api import request as m

#: So many names of nested members are kept. More would be made up.
_MOST = 50
_CACHE = "cache_control"
# What the API defines, and no answer of another backend could depend on.
_MEANS_NOTHING: dict[type, tuple[str, ...]] = {
    m.TextBlock: ("citations", "parsed_output"),  # of an earlier answer; the latter by an SDK
    m.ToolUseBlock: ("caller",),
    m.ToolResultBlock: ("toolset_name",),  # that of the call is read
    m.TextSource: ("media_type",),  # there is but one
    m.Tool: ("defer_loading", "eager_input_streaming", "display_number"),  # all are declared
}
# What the types begin with of tools that are not left out as a whole; see `server_tools`.
_KEPT_TOOLS = ("bash_", "text_editor_", "memory_", "computer_", "browser_", "tool_search_tool_")


def _known(cls: type) -> frozenset[str]:
    names = (field.name for field in attrs.fields(cls))
    return frozenset((*names, "type", *_MEANS_NOTHING.get(cls, ())))


_REQUEST = _known(m.MessagesRequest) - {"unread", "type"}
_MESSAGE = _known(m.Message) - {"type"}
_BLOCKS = {tag: _known(cls) for tag, cls in m.BLOCKS.items()}
_SOURCES = {tag: _known(cls) for tag, cls in m.DOCUMENT_SOURCES.items()}
_TOOL = _known(m.Tool)
_FORMAT = _known(m.OutputFormat)
_EFFORT = frozenset({"effort"})
_SECTIONS = {
    "tool_choice": _known(m.ToolChoice),
    "thinking": _known(m.Thinking),
    "output_config": _known(m.OutputConfig) - {"type"},
    "output_format": _FORMAT,
    "metadata": _known(m.Metadata) - {"type"},
}

Names = dict[str, None]


def unknown_fields(body: dict[str, Any]) -> tuple[str, ...]:
    """The names, each once, of a request that has the right structure; top-level ones first."""
    names: Names = {k: None for k, v in body.items() if k not in _REQUEST and _asks(v)}
    container = body.get("container")
    if isinstance(container, dict) and container.get("skills"):
        names["container.skills"] = None
    most = len(names) + _MOST
    for section, known in _SECTIONS.items():
        _look(body.get(section), section, known, names)
    _look((body.get("output_config") or {}).get("format"), "output_config.format", _FORMAT, names)
    for tool in body.get("tools") or ():
        if (tool.get("type") or "custom").startswith(("custom", *_KEPT_TOOLS)):
            _look(tool, "tools", _TOOL, names)
    _blocks(body.get("system"), names)
    for message in body["messages"]:
        if len(message) > 2:  # than a role and a content
            _look(message, "messages", _MESSAGE, names)
            _look(message.get("output_config"), "messages.output_config", _EFFORT, names)
        _blocks(message.get("content"), names)
    kept = list(names)[:most]
    return (*kept, *({_CACHE} & names.keys() - set(kept)))


def _asks(value: Any) -> bool:
    """Whether a member asks for anything: `null`, `""`, `[]`, `{}` and `{"edits": []}` do not."""
    if isinstance(value, dict):
        return any(map(_asks, value.values()))
    return value is not None and value not in ("", [])


def _look(value: Any, place: str, known: frozenset[str], names: Names) -> None:
    if not value or value.keys() <= known:
        return
    for name, given in value.items():
        if name not in known and _asks(given):
            names[_CACHE if name == _CACHE else f"{place}.{name}"] = None


def _blocks(content: Any, names: Names) -> None:
    if not isinstance(content, list):  # a string, or nothing
        return
    for block in content:
        tag = block["type"]
        if tag == "text" and len(block) == 2:  # most are so
            continue
        known = _BLOCKS.get(tag)
        if known is None:
            if block.get(_CACHE) is not None:
                names[_CACHE] = None
            continue
        if not block.keys() <= known:
            _look(block, tag, known, names)
        if tag in ("tool_result", "search_result", "mid_conv_system"):
            _blocks(block.get("content"), names)
        elif tag in ("image", "document"):
            source = block["source"]
            _look(source, f"{tag}.source", _SOURCES[source["type"]], names)
            if source["type"] == "content":
                _blocks(source["content"], names)
