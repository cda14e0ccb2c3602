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
    new messages that are 100 KB or more, and      the Parts, not cached: most such messages
      most of the body, when they come first         never come again
    other members                                  their JSON

Parts are immutable, and requests share them. They stay in the memory of this process. A part is
dropped when others need its memory and it is the least recently used one.

Two comparisons find most of a body. They need no parser and no hash:

- The bytes before and after the messages are those of an earlier body: its envelope. JSON has one
  meaning, so the bytes between them are messages, or they are not valid.
- The messages of a conversation follow each other as in its last request. Where many of them came
  again, they are joined: one comparison finds all of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from threading import Lock
from typing import Any

from attrs import Factory, define
from cattrs.errors import BaseValidationError

from stages.messages_api.body_layout import BodyLayout, may_be_parsed, split_messages
from stages.messages_api.cached_part import (
    JOINED,
    Beginnings,
    CachedPart,
    Envelope,
    Following,
    Key,
    Split,
    SplitBody,
    cached_part,
    find_following,
    insert_following,
    join,
    join_parts,
    make_envelope,
    uncached_part,
)

#: Bytes. A shorter body costs less to decode than to split.
MIN_BODY = 16_000
#: JSON values of a body; see json_codec.
_MAX_VALUES = 320_000
#: How many times messages are joined in one request.
_MAX_JOINS = 16
#: Parts, each of one message or more, that are found because they follow each other.
_MAX_FOLLOWED = 2000
#: Each is compared with each body.
_MAX_ENVELOPES = 32
#: Bytes of new messages; see the table.
_LARGE = 100_000
#: Members that are one part. Each message is a part, too.
_WHOLE = ("system", "tools")


@define(eq=False)
class PartCache:
    """Parts by their keys, the least recently used first. Threads may share it."""

    max_bytes: int = 0
    """The most memory; 0: no body is split."""
    used_bytes: int = 0
    """An estimate of the memory that is used."""
    max_values: int = _MAX_VALUES
    """JSON values of a body, at most; commas in some texts count too."""
    _parts: OrderedDict[Key, CachedPart] = Factory(OrderedDict)
    _envelopes: Following = Factory(list)
    _first: Following = Factory(list)
    """The first messages of conversations."""
    _beginnings: Beginnings = Factory(Beginnings)
    _lock: Lock = Factory(Lock)

    def split(self, data: bytes, max_new: int | None = None) -> SplitBody | None:
        """Split a body. None: it has to be decoded as a whole. See the table above.

        With `max_new`, also None if more bytes would have to be parsed, or if the body is_long.
        """
        if not self.max_bytes:
            return None
        split = self._split_in_envelope(data, max_new) or self._split_whole(data, max_new)
        return None if split and max_new is not None and split.is_long else split

    def decode(self, split: SplitBody) -> dict[str, Any] | None:
        """Decode a body into its members. All messages are one Part. See the table above."""
        try:
            envelope = self._decode_envelope(split)
            messages = [self._decoded_messages(split, part) for part in split.messages]
        except (ValueError, BaseValidationError):
            return None  # after the whole body is decoded, the problem is reported with its path
        if split.is_cached:
            self._link(messages, split.followed, split.layout.comma)
        if envelope.values + sum([message.values for message in messages]) > self.max_values:
            return None
        return {**envelope.part.value, "messages": join_parts(messages)}

    def resize(self, max_bytes: int) -> None:
        """Change the limit."""
        with self._lock:
            self.max_bytes = max_bytes
            self._shrink()
            if not max_bytes:
                for remembered in (self._envelopes, self._first, self._beginnings):
                    remembered.clear()

    def _split_in_envelope(self, data: bytes, max_new: int | None) -> SplitBody | None:
        """Split a body whose envelope is cached. It may fit by chance, so not if much is new."""
        envelope = self._find_envelope(data)
        if envelope is None:
            return None
        messages, place, more = self._follow(data, envelope.layout)
        end = len(data) - len(envelope.key[1])
        new = data[place:end]
        if place > end or len(new) >= _LARGE or not may_be_parsed(new, max_new):
            return None
        return self._split_body(envelope.layout, envelope, {}, messages, new, more)

    def _split_whole(self, data: bytes, max_new: int | None) -> SplitBody | None:
        layout = BodyLayout.of(data)
        if layout is None:
            return None
        messages, place, more = self._follow(data, layout)
        if messages:
            data = data[: layout.start] + data[place:]
        if not may_be_parsed(data, max_new):
            return None
        try:
            new, data = layout.cut(data)
            members = layout.members(data)
        except (ValueError, RecursionError):
            return None
        envelope = data[: layout.start], data[layout.start :]
        parts = {name: self._find(name, [members[name]])[0] for name in _WHOLE if name in members}
        return self._split_body(layout, envelope, {**members, **parts}, messages, new, more)

    def _split_body(
        self,
        layout: BodyLayout,
        envelope: Envelope | tuple[bytes, bytes],
        members: Mapping[str, Split],
        messages: list[Split],
        new: bytes,
        more: bool,
    ) -> SplitBody | None:
        if more != bool(new):
            return None
        split, size = SplitBody(layout, envelope, members, messages, len(messages)), len(new)
        with self._lock:
            split.is_cached = (
                size < _LARGE or size < split.known_bytes or self._beginnings.came_before(new)
            )
        try:
            texts = split_messages(new) if split.is_cached and new else ()
        except ValueError:
            return None
        messages += self._find("messages", texts) if split.is_cached else [new]
        return split

    def _find_envelope(self, data: bytes) -> Envelope | None:
        """Return the longest envelope that fits: a shorter one may end in another member."""
        with self._lock:
            envelopes = [reference() for reference in self._envelopes]
            fitting = [one for one in envelopes if isinstance(one, Envelope) and one.fits(data)]
            envelope = max(fitting, key=lambda one: len(one.key[1]), default=None)
            if envelope:
                insert_following(self._envelopes, envelope, _MAX_ENVELOPES)
                self._touch(envelope, *envelope.parts)
        return envelope

    def _follow(self, data: bytes, layout: BodyLayout) -> tuple[list[Split], int, bool]:
        """Return the cached messages that `data` begins with, and the place after them.

        The last value is whether other messages have to come there.
        """
        messages: list[Split] = []
        place, comma, more, following = layout.start, layout.comma, True, self._first
        with self._lock:
            while (
                more
                and len(messages) < _MAX_FOLLOWED
                and (cached := find_following(following, data, place))
            ):
                messages.append(cached)
                if following[0]() is not cached:
                    insert_following(following, cached)
                self._parts.move_to_end(cached.key)
                place += len(cached.key[1])
                if more := data.startswith(comma, place):
                    place += len(comma)
                following = cached.following
        return messages, place, more

    def _find(self, member: str, texts: Iterable[bytes]) -> list[Split]:
        """Replace the JSON of cached parts by these."""
        with self._lock:
            parts = [self._parts.get((member, text), text) for text in texts]
            self._touch(*(part for part in parts if not isinstance(part, bytes)))
        return parts

    def _touch(self, *parts: CachedPart) -> None:
        """Make these the most recently used parts."""
        for part in parts:
            if not part.dropped:
                self._parts.move_to_end(part.key)

    def _decoded(self, member: str, part: Split) -> CachedPart:
        """Return a part that is cached. Raises ValueError or BaseValidationError."""
        return self._add(cached_part(member, part)) if isinstance(part, bytes) else part

    def _decoded_messages(self, split: SplitBody, part: Split) -> CachedPart:
        """Return messages, cached or not. Raises ValueError or BaseValidationError."""
        if isinstance(part, CachedPart):
            return part
        if split.is_cached:
            return self._add(cached_part("messages", part))
        return uncached_part(part, split.layout.comma)

    def _decode_envelope(self, split: SplitBody) -> Envelope:
        """Return the envelope, which is cached if none of its parts is new.

        Some clients change the system prompt with each request: their envelopes never come again.
        Raises ValueError or BaseValidationError.
        """
        if isinstance(split.envelope, Envelope):
            return split.envelope
        members = dict(split.members)
        parts = {name: self._decoded(name, members[name]) for name in _WHOLE if name in members}
        envelope = make_envelope(*split.envelope, split.layout, {**members, **parts})
        if all(members[name] is part for name, part in parts.items()):
            with self._lock:
                self._touch(*envelope.parts)  # so that they are dropped after the envelope
            cached = self._add(envelope)
            with self._lock:
                insert_following(self._envelopes, cached, _MAX_ENVELOPES)
        return envelope

    def _add(self, part: CachedPart) -> CachedPart:
        """Cache a part. Return the one that is cached: it may be another thread's."""
        with self._lock:
            if old := self._parts.get(part.key):
                return old
            self._parts[part.key] = part
            self.used_bytes += part.memory
            self._shrink()
        return part

    def _link(self, messages: list[CachedPart], followed: int, comma: bytes) -> None:
        """Record which messages follow each other, from the last that `_follow` returned on.

        Also replace those that it returned by joined ones.
        """
        with self._lock:
            if followed == 0 and messages:
                insert_following(self._first, messages[0])
            for before, after in pairwise(messages[max(0, followed - 1) :]):
                insert_following(before.following, after)
        single = (n for n, message in enumerate(messages) if not message.is_joined)
        starts = range(next(single, followed), followed - JOINED + 1, JOINED)
        for n in starts[:_MAX_JOINS]:
            singles = messages[n : n + JOINED]
            if any(len(message.following) > 1 for message in singles[:-1]):
                continue  # other conversations have some of them
            joined = self._add(join(singles, comma))
            with self._lock:
                insert_following(messages[n - 1].following if n else self._first, joined)
                for message in singles:
                    if not message.dropped:
                        self._drop(self._parts.pop(message.key))

    def _shrink(self) -> None:
        while self.used_bytes > self.max_bytes:
            self._drop(self._parts.popitem(last=False)[1])

    def _drop(self, part: CachedPart) -> None:
        part.dropped = True
        self.used_bytes -= part.memory


#: The cache of this process. The section `server` has its limit.
PARTS = PartCache()
