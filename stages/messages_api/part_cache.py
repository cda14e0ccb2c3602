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

The messages of a conversation follow each other as in its last request: so most of them are found
by one comparison each, and need no parser and no hash.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from threading import Lock
from typing import Any
from weakref import ReferenceType, ref

from attrs import Factory, define, frozen
from cattrs.errors import BaseValidationError

from stages.messages_api.body_layout import BodyLayout
from stages.messages_api.structuring import Part, structure_part
from stages.messages_api.text_messages import text_message
from stages.messages_api.validation import message_problems
from stages.wire import json_codec

#: Bytes. A shorter body costs less to decode than to split.
MIN_BODY = 16_000
#: Bytes of memory of a cached part and its objects, besides its texts, and of a JSON value in it.
_MEMORY_PER_PART, _MEMORY_PER_VALUE = 1500, 128
#: JSON values of a body; see json_codec.
_MAX_VALUES = 320_000
#: A body with more messages is decoded as a whole: each part costs some microseconds.
_MAX_MESSAGES, _ROLE = 5000, b'"role":'
#: Messages that may come after the same message, or begin a conversation. Each is compared.
_MAX_FOLLOWING = 32
#: Members that are one part. Each message is a part, too.
_WHOLE = ("system", "tools")
#: The member that a part is in, and its JSON.
_Key = tuple[str, bytes]


@define(eq=False)
class _Cached:
    key: _Key
    part: Part
    values: int
    """It has at most this many JSON values."""
    memory: int
    """Bytes, estimated."""
    following: _Following = Factory(list)
    dropped: bool = False
    """Whether the cache has dropped it, while a request still uses it."""


#: Messages that came after a message, the latest first. A dropped part vanishes from it.
_Following = list[ReferenceType[_Cached]]


@frozen(eq=False)
class SplitBody:
    """A body that is split, but not decoded."""

    members: Mapping[str, bytes]
    parts: Mapping[str, list[_Cached | bytes]]
    """The parts of a member: cached, or their JSON. Each message is one; others have one."""

    @property
    def new_bytes(self) -> int:
        """The bytes that have to be decoded: of new parts, and of members that are no parts."""
        new = [len(part) for parts in self.parts.values() for part in parts if type(part) is bytes]
        others = [len(raw) for name, raw in self.members.items() if name not in self.parts]
        return sum(new) + sum(others)


@define(eq=False)
class PartCache:
    """Parts by their member and JSON, the least recently used first. Threads may share it."""

    max_bytes: int = 0
    """The most memory; 0: no body is split."""
    used_bytes: int = 0
    """An estimate of the memory that is used."""
    max_values: int = _MAX_VALUES
    """JSON values of a body, at most; commas in some texts count too."""
    _parts: OrderedDict[_Key, _Cached] = Factory(OrderedDict)
    _first: _Following = Factory(list)
    """The first messages of conversations."""
    _lock: Lock = Factory(Lock)

    def split(self, data: bytes) -> SplitBody | None:
        """Split a body. None: it has to be decoded as a whole. See the table above."""
        layout = BodyLayout.of(data) if self.max_bytes else None
        if layout is None:
            return None
        messages, end = self._follow(data, layout)
        after_comma = data.endswith(layout.comma, layout.start, end)
        if messages:
            data = data[: layout.start] + data[end:]
        if data.count(_ROLE) > _MAX_MESSAGES:  # before each gets an object
            return None
        try:
            new, data = layout.cut(data)
            members = layout.members(data)
        except (ValueError, RecursionError):
            return None
        if len(messages) + len(new) > _MAX_MESSAGES or (messages and after_comma != bool(new)):
            return None
        parts = {name: self._find(name, [members[name]]) for name in _WHOLE if name in members}
        return SplitBody(members, {**parts, "messages": messages + self._find("messages", new)})

    def decode(self, split: SplitBody) -> dict[str, Any] | None:
        """Decode a body into its members. See the table above."""
        body: dict[str, Any] = {}
        values = 0
        try:
            for name, raw in split.members.items():
                if name not in split.parts:
                    body[name] = json_codec.decode(b"[%b]" % raw)[0]  # as deep as in the body
                    continue
                parts = split.parts[name]
                cached = [self._add((name, p)) if isinstance(p, bytes) else p for p in parts]
                values += sum([part.values for part in cached])
                body[name] = [part.part for part in cached]
                if name == "messages":
                    self._link(parts, cached)
                else:
                    body[name] = cached[0].part
        except (ValueError, BaseValidationError):
            return None  # after the whole body is decoded, the problem is reported with its path
        return body if values <= self.max_values else None

    def resize(self, max_bytes: int) -> None:
        """Change the limit."""
        with self._lock:
            self.max_bytes = max_bytes
            self._shrink()

    def _follow(self, data: bytes, layout: BodyLayout) -> tuple[list[_Cached | bytes], int]:
        """Return the cached messages that `data` begins with, and the place after them."""
        messages: list[_Cached | bytes] = []
        place, comma, following = layout.start, layout.comma, self._first
        width = len(comma)
        with self._lock:
            while cached := _match(following, data, place):
                messages.append(cached)
                self._parts.move_to_end(cached.key)
                place += len(cached.key[1])
                if data[place : place + width] != comma:
                    break
                place += width
                following = cached.following
        return messages, place

    def _find(self, member: str, texts: Iterable[bytes]) -> list[_Cached | bytes]:
        """Replace the JSON of cached parts by these."""
        with self._lock:
            parts: list[_Cached | bytes]
            parts = [self._parts.get((member, text), text) for text in texts]
            for part in parts:
                if not isinstance(part, bytes):
                    self._parts.move_to_end(part.key)
        return parts

    def _add(self, key: _Key) -> _Cached:
        """Structure a part. Raises ValueError or BaseValidationError if it is not valid."""
        cached = _structure(*key)
        with self._lock:
            if old := self._parts.get(key):  # added by another thread, or twice in this body
                return old
            self._parts[key] = cached
            self.used_bytes += cached.memory
            self._shrink()
        return cached

    def _link(self, split: Sequence[_Cached | bytes], messages: list[_Cached]) -> None:
        """Record which messages follow each other, from the last that was cached on."""
        old = next((n for n, part in enumerate(split) if type(part) is bytes), len(split))
        with self._lock:
            if old <= 1 and messages:
                _insert(self._first, messages[0])
            for before, after in pairwise(messages[max(0, old - 1) :]):
                _insert(before.following, after)

    def _shrink(self) -> None:
        while self.used_bytes > self.max_bytes:
            _, cached = self._parts.popitem(last=False)
            cached.dropped = True
            self.used_bytes -= cached.memory


def _match(following: _Following, data: bytes, place: int) -> _Cached | None:
    """Return the message whose JSON is at `place`."""
    for reference in following:
        cached = reference()
        if cached is not None and data.startswith(cached.key[1], place) and not cached.dropped:
            return cached
    return None


def _insert(following: _Following, message: _Cached) -> None:
    if not following or following[0]() is not message:
        others = (other for other in following if other() not in (None, message))
        following[:] = [ref(message), *islice(others, _MAX_FOLLOWING - 1)]


def _structure(member: str, raw: bytes) -> _Cached:
    # In two lists it is as deep as in the body: the decoder limits the depth.
    value = json_codec.decode(b"[[%b]]" % raw, finite=False)[0][0]
    if member == "messages" and (result := text_message(value)):
        message, values = result
        part = Part(message, ())
    else:
        json_codec.refuse_infinity(raw, value)
        part = structure_part(member, value)
        values = 1 + sum(map(raw.count, (b",", b"[", b"{")))
        if member == "messages" and any(message_problems(part.value, "")):
            raise ValueError("a message with a problem")
    return _Cached((member, raw), part, values, _memory(raw, values))


def _memory(raw: bytes, values: int) -> int:
    """Estimate the memory of a part. A character of a text takes up to four bytes."""
    width = 1 if raw.isascii() and b"\\u" not in raw else 4
    return max(_MEMORY_PER_PART, _MEMORY_PER_VALUE * values) + (1 + width) * len(raw)


#: The cache of this process. The section `server` has its limit.
PARTS = PartCache()
