"""The tools that were translated before. An agent sends the same ones with each request.

They are known by the identity of the client's tools, which `PartCache` keeps. So a wrong hit is
impossible.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

from attrs import Factory, define, evolve, frozen

from stages.exchange import Degradation
from stages.messages_api import request as m
from stages.profiles.profile import Profile
from stages.translation.field_policies import FieldPolicies
from stages.translation.tools import TranslatedTools, translate_tools
from stages.wire.json_codec import encode

#: Lists of tools, and bytes of their JSON.
_MAX_LISTS, _MAX_BYTES = 32, 256 * 1024


@frozen(eq=False)
class _Entry:
    tools: tuple[m.Tool, ...]
    profile: Profile
    """This and `tools` stay alive, so no other object has their `id`."""
    translated: TranslatedTools
    degradations: tuple[Degradation, ...]


@define(eq=False)
class ToolsCache:
    """Translated tools, the least recently used first. Requests share them."""

    _entries: OrderedDict[Any, _Entry] = Factory(OrderedDict)
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
            own = evolve(fields, degradations={})
            translated = translate_tools(request, profile, own)
            entry = _Entry(request.tools, profile, translated, own.degradations())
            if len(encode(translated.options)) <= _MAX_BYTES:
                self._store(key, entry)
        fields.repeat(entry.degradations)
        return entry.translated

    def _store(self, key: Any, entry: _Entry) -> None:
        with self._lock:
            self._entries[key] = entry
            if len(self._entries) > _MAX_LISTS:
                self._entries.popitem(last=False)


#: The cache of this process.
TOOLS = ToolsCache()
