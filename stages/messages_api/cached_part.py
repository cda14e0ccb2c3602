"""The parts of request bodies that PartCache keeps, and how they find each other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any
from weakref import ReferenceType, ref

from attrs import Factory, define

from stages.messages_api.blocks import TextBlock, ToolResultBlock
from stages.messages_api.body_layout import BodyLayout, divide_messages, split_messages
from stages.messages_api.request import Message, as_turn, join_messages
from stages.messages_api.structuring import Part, structure_part
from stages.messages_api.text_messages import text_message
from stages.messages_api.validation import message_problems, tool_problems
from stages.wire import json_codec

#: Bytes of memory of a cached part and its objects, besides its texts, and of a JSON value in it.
_MEMORY_PER_PART, _MEMORY_PER_VALUE = 1500, 128
#: Parts that may come after the same part, or begin a conversation. Each is compared: bytes of all
#: that are, at most.
_MAX_FOLLOWING, _MAX_COMPARED = 256, 20_000_000

#: Bytes of messages that are remembered, and beginnings.
_BEGIN, _MAX_BEGINNINGS = 500, 1000
#: Messages that are joined.
JOINED = 16
_MAX_MESSAGES = 1000

#: The member that a part is in, and its JSON. For an envelope, see there.
Key = tuple[str | bytes, bytes]


@define(eq=False)
class CachedPart:
    """A message or several ones, a system prompt, or the tools."""

    key: Key
    part: Part
    """For messages, its value is a tuple of them."""
    values: int
    """It has at most this many JSON values."""
    memory: int
    """Bytes, estimated."""
    following: Following = Factory(list)
    dropped: bool = False
    """Whether the cache has dropped it, while a request still uses it."""

    @property
    def is_joined(self) -> bool:
        """Whether it has several messages."""
        return len(self.part.value) > 1


@define(eq=False, kw_only=True)
class Envelope(CachedPart):
    """The bytes of a body before and after its messages."""

    key: tuple[bytes, bytes]
    part: Part
    """Its value is the members, with a place for `messages`."""
    layout: BodyLayout
    parts: list[CachedPart]
    """The parts among the members. The cache drops the envelope before it drops them."""
    other_bytes: int
    """The bytes of the members that are no parts. They are structured with each request."""

    def fits(self, data: bytes) -> bool:
        """Whether `data` begins and ends with these bytes, which may overlap in it."""
        before, after = self.key
        return data.startswith(before) and data.endswith(after)


#: A cached part, or the JSON of a new one, or of new messages with commas between them.
Split = CachedPart | bytes


@define(eq=False)
class SplitBody:
    """A body that is split, but not decoded."""

    layout: BodyLayout
    envelope: Envelope | tuple[bytes, bytes]
    """Cached, or the bytes before and after the messages."""
    members: Mapping[str, Split]
    """Those of a new envelope. Other members than parts are JSON."""
    messages: list[Split]
    """New ones are one item together if they are not cached."""
    followed: int
    """The first messages, which were found because they follow each other."""
    is_cached: bool = False
    """Whether `decode` caches the new messages."""

    @property
    def new_bytes(self) -> int:
        """The bytes that have to be structured: of new parts, and of members that are no parts."""
        parts = chain(self.members.values(), self.messages)
        others = self.envelope.other_bytes if isinstance(self.envelope, Envelope) else 0
        return others + sum([len(part) for part in parts if type(part) is bytes])

    @property
    def is_long(self) -> bool:
        """Whether it has too many messages for the event loop, also if all are cached."""
        if len(self.messages) * JOINED <= _MAX_MESSAGES:
            return False
        cached = [part for part in self.messages if isinstance(part, CachedPart)]
        joined = sum([len(part.part.value) - 1 for part in cached])
        return len(self.messages) + joined > _MAX_MESSAGES

    @property
    def known_bytes(self) -> int:
        """The bytes of the messages that are cached."""
        return sum([len(part.key[1]) for part in self.messages if isinstance(part, CachedPart)])


@define(eq=False)
class Beginnings:
    """The beginnings of new messages that are large, the latest last."""

    _texts: OrderedDict[bytes, None] = Factory(OrderedDict)

    def came_before(self, messages: bytes) -> bool:
        """Whether messages with this beginning have come before. Remember it."""
        begin = messages[:_BEGIN]
        came_before = begin in self._texts
        self._texts[begin] = None
        self._texts.move_to_end(begin)
        if len(self._texts) > _MAX_BEGINNINGS:
            self._texts.popitem(last=False)
        return came_before

    def clear(self) -> None:
        """Forget all."""
        self._texts.clear()


#: Parts that came after a part, the latest first. A dropped part vanishes from it.
Following = list[ReferenceType[CachedPart]]


def find_following(following: Following, data: bytes, place: int) -> CachedPart | None:
    """Return the part whose JSON is at `place`."""
    compared = 0
    for reference in following:
        cached = reference()
        if cached is None or cached.dropped:
            continue
        if data.startswith(cached.key[1], place):
            return cached
        compared += len(cached.key[1])
        if compared > _MAX_COMPARED:
            break
    return None


def insert_following(following: Following, part: CachedPart, most: int = _MAX_FOLLOWING) -> None:
    """Make `part` the latest one. Keep at most `most`."""
    if not following or following[0]() is not part:
        others = (other for other in following if other() not in (None, part))
        following[:] = [ref(part), *islice(others, most - 1)]


def cached_part(member: str, raw: bytes) -> CachedPart:
    """Structure a part. Raises ValueError or BaseValidationError if it is not valid."""
    (value,) = _decode_items(raw)
    if member == "messages":
        part, values = _structure_messages([value])
        is_ascii = _is_ascii(raw, part.value[0])
        part = Part(as_turn(part.value[0]), part.unknown_fields)
    else:
        json_codec.refuse_infinity(raw, value)
        part, values = structure_part(member, value), _count_values(raw)
        if member == "tools" and any(tool_problems(part.value)):
            raise ValueError("a tool with a problem")
        is_ascii = _is_ascii(raw)
    return CachedPart((member, raw), part, values, _memory(raw, values, is_ascii))


def uncached_part(joined: bytes, comma: bytes) -> CachedPart:
    """Structure many messages, which are not cached. Raises as `cached_part` does."""
    try:
        items = list(map(_decode_items, divide_messages(joined, comma)))
    except ValueError:
        items = list(map(_decode_items, split_messages(joined)))
    part, values = _structure_messages(chain.from_iterable(items))
    return CachedPart(("messages", b""), part, values, 0)


def _decode_items(raw: bytes | memoryview) -> list[Any]:
    """Decode items of a list. Raises ValueError if there are none."""
    # In two lists they are as deep as in the body: the decoder limits the depth.
    lists = json_codec.decode(b"".join((b"[[", raw, b"]]")), finite=False)
    if len(lists) > 1 or not lists[0]:
        raise ValueError("no items of one list")
    items: list[Any] = lists[0]
    return items


def _structure_messages(items: Iterable[Any]) -> tuple[Part, int]:
    """Structure messages. Also return the greatest number of their JSON values.

    Raises ValueError or BaseValidationError if one is not valid.
    """
    messages: list[Message] = []
    names: dict[str, None] = {}
    total = 0
    for item in items:
        if result := text_message(item):
            message, values = result
        else:
            values = json_codec.count_values(item)
            part = structure_part("messages", item)
            message = part.value
            if any(message_problems(message, "")):
                raise ValueError("a message with a problem")
            names |= dict.fromkeys(part.unknown_fields)
        messages.append(message)
        total += values
    return Part(tuple(messages), tuple(names)), total


def join(messages: Sequence[CachedPart], comma: bytes) -> CachedPart:
    """Return messages that follow each other as one part, which one comparison finds."""
    return CachedPart(
        ("messages", comma.join([message.key[1] for message in messages])),
        join_parts(messages),
        sum([message.values for message in messages]),
        sum([message.memory for message in messages]),
        messages[-1].following,
    )


def join_parts(messages: Iterable[CachedPart]) -> Part:
    """Return the parts of messages as one."""
    parts = [message.part for message in messages]
    names = dict.fromkeys(chain.from_iterable([part.unknown_fields for part in parts]))
    return Part(join_messages([part.value for part in parts]), tuple(names))


def make_envelope(
    before: bytes, after: bytes, layout: BodyLayout, members: Mapping[str, CachedPart | bytes]
) -> Envelope:
    """Decode the members that are no parts. Raises ValueError."""
    body: dict[str, Any] = {}
    parts, others = list[CachedPart](), list[bytes]()
    for name, member in members.items():
        if isinstance(member, CachedPart):
            parts.append(member)
            body[name] = member.part
        else:
            others.append(member)
            body[name] = json_codec.decode(b"[%b]" % member)[0]  # as deep as in the body
    other = b",".join(others)
    return Envelope(
        key=(before, after),
        part=Part(body, ()),
        values=sum(part.values for part in parts),
        memory=len(before) + len(after) + _memory(other, _count_values(other), _is_ascii(other)),
        layout=layout,
        parts=parts,
        other_bytes=len(other),
    )


def _count_values(raw: bytes) -> int:
    return 1 + sum(map(raw.count, (b",", b"[", b"{")))


def _is_ascii(raw: bytes, message: Message | None = None) -> bool:
    """Whether all texts are ASCII. Those of a user's `message` are known: no search for escapes."""
    if not raw.isascii():
        return False
    if message is None or message.role != "user":
        return b"\\u" not in raw
    for block in message.content:
        for part in block.content if isinstance(block, ToolResultBlock) else (block,):
            if not isinstance(part, TextBlock):
                return b"\\u" not in raw
            if not part.text.isascii():
                return False
    return True


def _memory(raw: bytes, values: int, is_ascii: bool) -> int:
    """Estimate the memory of a part. A character of other texts than ASCII takes up to 4 bytes."""
    width = 1 if is_ascii else 4
    return max(_MEMORY_PER_PART, _MEMORY_PER_VALUE * values) + (1 + width) * len(raw)
