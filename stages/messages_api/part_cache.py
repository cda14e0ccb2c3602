"""The parts of request bodies that were structured before.

An agent sends its whole conversation with each request, and one message of it is new. Here the
body is split without decoding it. A message, a system prompt or a list of tools that has the same
bytes as an earlier one is neither decoded nor structured again. The bytes themselves are compared,
not a digest, so a wrong hit is impossible.

    the body, or a part of it                      in the result of `split` and `decode`
    --------------------------------------------   ---------------------------------------------
    no compact JSON object, an object with a key   None: the caller decodes the whole body, and
      twice, a part that is not valid JSON or has    reports a problem with its path
      a problem, too many values or messages
    a cached part                                  the Part
    a new part                                     the Part, now cached
    other members                                  their JSON

Parts are immutable, and requests share them. They stay in the memory of this process. A part is
dropped when others need its memory and it is the least recently used one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from threading import Lock
from typing import Any

import msgspec
from attrs import Factory, define, frozen
from cattrs.errors import BaseValidationError

from stages.messages_api.structuring import Part, structure_part
from stages.messages_api.validation import message_problems
from stages.wire import json_codec

#: Bytes. A shorter body costs less to decode than to split.
MIN_BODY = 16_000
#: Memory of a cached part: for each byte of its JSON, and besides.
_MEMORY_PER_BYTE, _MEMORY_PER_PART = 3, 1000
#: JSON values of a body; see json_codec.
_MAX_VALUES = 320_000

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])

#: A body with more messages is decoded as a whole: each part costs some microseconds.
_MAX_MESSAGES = 5000
#: Members that are one part. Each message is a part, too.
_WHOLE = ("system", "tools")
#: The member that a part is in, and its JSON.
_Key = tuple[str, bytes]


@frozen(eq=False)
class _Cached:
    part: Part
    values: int
    """It has at most this many JSON values."""


@frozen(eq=False)
class SplitBody:
    """A body that is split, but not decoded."""

    members: Mapping[str, msgspec.Raw]
    parts: Mapping[str, list[bytes]]
    """The JSON of each part, by its member."""
    cached: Mapping[_Key, _Cached]

    @property
    def new_bytes(self) -> int:
        """The bytes of the parts that have to be decoded."""
        return sum(
            len(part)
            for member, parts in self.parts.items()
            for part in parts
            if (member, part) not in self.cached
        )


@define(eq=False)
class PartCache:
    """Parts by their member and JSON, the least recently used first. Threads may share it."""

    max_bytes: int = 0
    """The most memory; 0: no body is split."""
    used_bytes: int = 0
    """An estimate of the memory that is used."""
    max_values: int = _MAX_VALUES
    """JSON values of a body, at most; commas in texts count too."""
    _parts: OrderedDict[_Key, _Cached] = Factory(OrderedDict)
    _lock: Lock = Factory(Lock)

    def split(self, data: bytes) -> SplitBody | None:
        """Split a body. None: it has to be decoded as a whole. See the table above."""
        if not self.max_bytes:
            return None
        try:
            members = _MEMBERS.decode(data)
            if not _is_whole(data, members):
                return None
            parts = {name: [bytes(raw)] for name, raw in members.items() if name in _WHOLE}
            if "messages" in members:
                parts["messages"] = list(map(bytes, _ITEMS.decode(members["messages"])))
        except (ValueError, RecursionError):
            return None
        if len(parts.get("messages", ())) > _MAX_MESSAGES:
            return None
        keys = [(member, part) for member, texts in parts.items() for part in texts]
        return SplitBody(members, parts, self._find(keys))

    def decode(self, split: SplitBody) -> dict[str, Any] | None:
        """Decode a body into its members. See the table above."""
        body: dict[str, Any] = {}
        values = 0
        try:
            for name, raw in split.members.items():
                if name not in split.parts:
                    body[name] = json_codec.decode(bytes(raw))
                    continue
                found = [self._part((name, part), split) for part in split.parts[name]]
                values += sum(number for _, number in found)
                body[name] = [part for part, _ in found] if name == "messages" else found[0][0]
        except (ValueError, BaseValidationError):
            return None  # after the whole body is decoded, the problem is reported with its path
        return body if values <= self.max_values else None

    def resize(self, max_bytes: int) -> None:
        """Change the limit."""
        with self._lock:
            self.max_bytes = max_bytes
            self._shrink()

    def _find(self, keys: Iterable[_Key]) -> dict[_Key, _Cached]:
        found = {}
        with self._lock:
            for key in keys:
                if cached := self._parts.get(key):
                    self._parts.move_to_end(key)
                    found[key] = cached
        return found

    def _part(self, key: _Key, split: SplitBody) -> tuple[Part, int]:
        """Return the part, and its greatest number of values.

        Raises ValueError or BaseValidationError if it is not valid.
        """
        if cached := split.cached.get(key):
            return cached.part, cached.values
        member, raw = key
        # In two lists it is as deep as in the body: the decoder limits the depth.
        value = json_codec.decode(b"[[%b]]" % raw)[0][0]
        values = 1 + sum(map(raw.count, (b",", b"[", b"{")))
        part = structure_part(member, value)
        if member == "messages" and any(message_problems(part.value, "")):
            raise ValueError("a message with a problem")
        with self._lock:
            if key not in self._parts:
                self.used_bytes += _memory(key)
            self._parts[key] = _Cached(part, values)
            self._shrink()
        return part, values

    def _shrink(self) -> None:
        while self.used_bytes > self.max_bytes:
            key, _ = self._parts.popitem(last=False)
            self.used_bytes -= _memory(key)


def _memory(key: _Key) -> int:
    return _MEMORY_PER_PART + _MEMORY_PER_BYTE * len(key[1])


def _is_whole(data: bytes, members: Mapping[str, msgspec.Raw]) -> bool:
    """Whether the members are all of `data`. A key that came twice is in `members` only once."""
    space = b" " if b'": ' in data[:100] else b""
    place, head = 0, b"{"
    for name, raw in members.items():
        head += json_codec.encode(name) + b":" + space
        pair = head + bytes(raw)
        if not data.startswith(pair, place):
            return False
        place, head = place + len(pair), b"," + space
    return data[place:] == b"}"


#: The cache of this process. The section `server` has its limit.
PARTS = PartCache()
