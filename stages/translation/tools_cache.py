"""The tools that were translated before. An agent sends the same ones with each request.

They are known by the identity of the client's tools, which `PartCache` keeps. So a wrong hit is
impossible.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

from attrs import Factory, astuple, define, frozen

from stages.exchange import Degradation
from stages.messages_api import request as m
from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies
from stages.translation.tools import TranslatedTools, translate_tools
from stages.wire.json_codec import encode, encode_exact

#: Lists of tools; bytes that one needs, and all of them.
_MAX_LISTS, _MAX_BYTES, _MAX_TOTAL = 32, 2 * 1024 * 1024, 8 * 1024 * 1024
#: Bytes of a JSON value, besides its text.
_MEMORY_PER_VALUE = 128


@frozen(eq=False)
class _Entry:
    tools: tuple[m.Tool, ...]
    profile: Profile
    """This and `tools` stay alive, so no other object has their `id`."""
    translated: TranslatedTools
    degradations: tuple[Degradation, ...]
    size: int
    """Bytes of memory, estimated."""


@define(eq=False)
class ToolsCache:
    """Translated tools, the least recently used first. Requests share them."""

    _entries: OrderedDict[Any, _Entry] = Factory(OrderedDict)
    _used_bytes: int = 0
    _lock: Lock = Factory(Lock)

    def translate(
        self, request: m.MessagesRequest, profile: Profile, fields: FieldPolicies
    ) -> TranslatedTools:
        """Translate the tools, or return their earlier translation. Raises UnsupportedError."""
        choice = request.tool_choice
        if not request.tools or (choice and choice.type == "none"):  # it depends on the messages
            return translate_tools(request, profile, fields)
        key = (id(request.tools), id(profile), fields.strict, choice)
        with self._lock:
            entry = self._entries.get(key)
            if entry:
                self._entries.move_to_end(key)
        if entry is None:
            own = fields.without_degradations()
            translated = translate_tools(request, profile, own)
            if "tools" in translated.options:
                translated.encoded = encode_exact(translated.options["tools"]) or b""
            tools = encode(list(map(_values, request.tools)))  # also what was dropped
            values = sum(map(tools.count, (b",", b"[", b"{")))
            size = len(tools) + 2 * len(translated.encoded) + _MEMORY_PER_VALUE * values
            entry = _Entry(request.tools, profile, translated, own.degradations(), size)
            if size <= _MAX_BYTES and translated.encoded:
                self._store(key, entry)
        fields.repeat(entry.degradations)
        return entry.translated

    def _store(self, key: Any, entry: _Entry) -> None:
        with self._lock:
            if key in self._entries:  # another thread was faster
                return
            self._entries[key] = entry
            self._used_bytes += entry.size
            while len(self._entries) > _MAX_LISTS or self._used_bytes > _MAX_TOTAL:
                _, oldest = self._entries.popitem(last=False)
                self._used_bytes -= oldest.size


def _values(tool: m.Tool) -> tuple[Any, ...]:
    return astuple(tool, recurse=False)


#: The cache of this process.
TOOLS = ToolsCache()
