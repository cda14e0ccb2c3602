"""Splits a compact JSON body without decoding it: its messages, and its other members.

Compact is JSON as SDKs write it: with a space after each comma and colon, or without any.
"""

from __future__ import annotations

import msgspec
from attrs import frozen

from stages.wire import json_codec


class _Messages(msgspec.Struct):
    messages: list[msgspec.Raw]


_MESSAGES = msgspec.json.Decoder(_Messages)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MARK = b'"messages":%b['


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

    def cut(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Return the JSON of the messages, and `data` without them. Raises ValueError."""
        messages = list(map(bytes, _MESSAGES.decode(data).messages))
        joined = self.comma.join(messages)
        if not data.startswith(joined, self.start):
            raise ValueError("the messages are at another place")
        return messages, data[: self.start] + data[self.start + len(joined) :]

    def members(self, data: bytes) -> dict[str, bytes]:
        """Return the JSON of the members of a body whose messages were cut. Raises ValueError.

        Raises it also if a key comes twice: the members would not be all of `data`.
        """
        members = {name: bytes(raw) for name, raw in _MEMBERS.decode(data).items()}
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
