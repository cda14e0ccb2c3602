"""Splits a compact JSON body without decoding it: its messages, and its other members.

Compact is JSON as SDKs write it: with a space after each comma and colon, or without any.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
from attrs import frozen

from stages.wire import json_codec


class _Message(msgspec.Struct, gc=False):
    role: Literal["user", "assistant", "system"]


class _Body(msgspec.Struct):
    messages: msgspec.Raw


_BODY = msgspec.json.Decoder(_Body)
_ROLES = msgspec.json.Decoder(list[_Message])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MARK = b'"messages":%b['
#: A body with more messages is decoded as a whole: each part costs some microseconds.
_MAX_MESSAGES = 5000
#: Bytes of the other members that are parsed without counting their values and names first; and
#: their number: the API has twenty.
_MAX_ENVELOPE, _MAX_MEMBERS = 300_000, 100

#: Bytes that are parsed without counting their values first. Each call of the parser takes up to
#: 10 ms for them.
_MAX_UNCHECKED = 2_000_000
#: Bytes of messages that are decoded together.
_GROUP = 100_000


def may_be_parsed(new: bytes, max_new: int | None) -> bool:
    """Whether to parse these bytes. The parser holds Python's lock, so its input has limits."""
    if max_new is not None and len(new) > max_new:
        return False
    if len(new) > _MAX_UNCHECKED:
        try:
            json_codec.refuse_many(new)
        except json_codec.TooManyError:
            return False
    return True


def split_messages(joined: bytes) -> list[bytes]:
    """Return the JSON of each message in the items of a list. Raises ValueError.

    The roles are decoded first. The decoder refuses an item that is no message at once: to split
    a list of four million numbers takes two seconds.
    """
    items = b"[%b]" % joined
    try:
        if not 0 < len(_ROLES.decode(items)) <= _MAX_MESSAGES:
            raise ValueError("no messages, or too many")
        return list(map(bytes, _LIST.decode(items)))
    except RecursionError as error:
        raise ValueError("too deep") from error


def divide_messages(joined: bytes, comma: bytes) -> Iterator[memoryview]:
    """Divide the items of a list of messages into groups of about _GROUP bytes, without a parser.

    A group ends where the next item begins as the first one does. That is a guess: an item of a
    list inside a message may begin so too. Then the group is not valid JSON.
    """
    mark, place, view = comma + joined[: joined.find(b":") + 1], 0, memoryview(joined)
    while (end := joined.find(mark, place + _GROUP)) >= 0:
        yield view[place:end]
        place = end + len(comma)
    yield view[place:]


@frozen
class BodyLayout:
    """Where the messages of a body begin, and what is between them."""

    start: int
    space: bytes

    @classmethod
    def of(cls, data: bytes) -> BodyLayout | None:
        """Return the layout of `data`; None if there is no list of messages.

        It is a guess: the place may be in another member. `members` notices that.
        """
        space = b" " if b'": ' in data[:100] else b""
        mark = _MARK % space
        place = data.find(mark)
        return cls(place + len(mark), space) if place >= 0 else None

    @property
    def comma(self) -> bytes:
        """The bytes between two messages."""
        return b"," + self.space

    def cut(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the items of the list of messages, and `data` without them. Raises ValueError."""
        messages = memoryview(_BODY.decode(data).messages)
        if not data.startswith(messages, self.start - 1):
            raise ValueError("the messages are at another place")
        end = self.start - 1 + len(messages) - 1
        return data[self.start : end], data[: self.start] + data[end:]

    def members(self, data: bytes) -> dict[str, bytes]:
        """Return the JSON of the members of a body whose messages were cut. Raises ValueError.

        Raises it also if a key comes twice: the members would not be all of `data`.
        """
        if len(data) > _MAX_ENVELOPE:
            json_codec.refuse_many(data)
        members = {name: bytes(raw) for name, raw in _MEMBERS.decode(data).items()}
        if len(members) > _MAX_MEMBERS:
            raise ValueError("too many members")
        place, head = 0, b"{"
        for name, raw in members.items():
            head += json_codec.encode(name) + b":" + self.space
            if not data.startswith(head + raw, place):
                raise ValueError("not compact, or a key twice")
            place += len(head)
            if name == "messages" and (raw, place + 1) != (b"[]", self.start):
                raise ValueError("the messages are at another place")
            place, head = place + len(raw), self.comma
        if data[place:] != b"}":
            raise ValueError("not compact, or a key twice")
        return members
