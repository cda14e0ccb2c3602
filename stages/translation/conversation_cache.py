"""The conversations that were rendered before.

An agent sends its whole conversation with each request. The turns that the request before had too
are rendered only once. A conversation is known by the identity of its messages and
their blocks: `PartCache` gives the same objects for the same bytes. So a wrong hit is impossible.

    the request begins with             rendered are        kept is the state before
    ---------------------------------   -----------------   ------------------------------------
    the turns of a checkpoint           the further turns   its last turn, instead of the checkpoint
    some turns of a checkpoint          all turns           its last turn, and the first other turn:
                                                            this one is a fork
    another turn, or has another        all turns           its last turn
      system prompt or profile

The next request may extend the last turn, so that turn is not in a checkpoint. A fork is not
replaced: the client went back to it, or it has several conversations with the same beginning. A
checkpoint refers weakly to the blocks: it can be found only while `PartCache` has them. Checkpoints
of one conversation share their rendered messages and their JSON.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from operator import is_
from threading import Lock
from typing import Any
from weakref import ReferenceType, ref

from attrs import Factory, define, frozen

from stages.chat_completions.usage import estimated_size
from stages.exchange import Degradation
from stages.messages_api.request import Block, Message
from stages.profiles.profile import Profile
from stages.translation.history import History
from stages.wire.encoded_parts import EncodedParts
from stages.wire.json_codec import encode_exact

#: The memory of a message, and of a tool call, besides its JSON. Texts are mostly the same objects
#: as in PartCache.
_MEMORY_PER_MESSAGE = 1000
#: Pieces of a conversation's JSON. Joining all of them copies the conversation.
_MAX_CHUNKS = 16
#: Checkpoints of conversations with the same first block, besides the latest fork.
_MAX_LATEST = 3

#: The profile, the owner, whether it is strict, and the conversation's first block.
Key = tuple[int, str, bool, int]


@define(eq=False)
class WeakTurn:
    """A turn that does not keep its blocks in memory."""

    role: str
    message: ReferenceType[Message]
    blocks: list[ReferenceType[Block]]

    @classmethod
    def of(cls, turn: Message) -> WeakTurn:
        """Return the weak form of `turn`."""
        return cls(turn.role, ref(turn), list(map(ref, turn.content)))

    def has_blocks_of(self, turn: Message) -> bool:
        """Whether both have the same objects as blocks. Equal ones may differ: 1 == True.

        Turns of several messages have new objects as messages.
        """
        if self.role != turn.role or len(self.blocks) != len(turn.content):
            return False
        return all(map(is_, [block() for block in self.blocks], turn.content))


@frozen(eq=False)
class Checkpoint:
    """A conversation up to a turn. It must not be changed: other requests share it."""

    profile: Profile
    system: str
    """The system prompt."""
    turns: Sequence[WeakTurn]
    """The turns that are rendered."""
    state: Any
    """The renderer after these turns."""
    degradations: tuple[Degradation, ...]
    """Those of these turns."""
    encoded: EncodedParts
    """The rendered messages with their JSON."""
    is_fork: bool = False
    """Whether a conversation has left others after these turns."""

    @property
    def memory(self) -> int:
        """The bytes of memory, estimated."""
        objects = len(self.state.messages) + len(self.state.ids)
        return _MEMORY_PER_MESSAGE * objects + self.encoded.memory

    def turns_in(self, history: History) -> int:
        """How many of these turns `history` begins with. Its last turn does not count."""
        if self.system != history.system:
            return 0
        begin = history.turns[: min(len(self.turns), len(history.turns) - 1)]
        same = [*map(is_, [turn.message() for turn in self.turns], begin), False]
        n = same.index(False)
        while n < len(begin) and self.turns[n].has_blocks_of(begin[n]):
            n = same.index(False, n + 1)
        return n


def encode_more(encoded: EncodedParts, messages: Sequence[dict[str, Any]]) -> EncodedParts:
    """Encode the messages that come after those of `encoded`."""
    new = messages[len(encoded.messages) :]
    data = encode_exact(new, 1, -1)  # without brackets
    if not new or data is None:
        return encoded
    chunks = (*encoded.chunks, data)
    if len(chunks) > _MAX_CHUNKS:
        chunks = (b",".join(chunks),)
    size = len(data) - len(new) + 1  # without commas
    if any(isinstance(message.get("content"), list) for message in new):
        size = sum(map(estimated_size, new))
    # Some texts are other objects than in PartCache. A character takes up to 4 bytes.
    memory = len(data) * (2 if data.isascii() else 5)
    return EncodedParts(messages, chunks, encoded.size + size, encoded.memory + memory)


@define(eq=False)
class ConversationCache:
    """The checkpoints of each conversation, the least recently used conversation first."""

    max_bytes: int = 0
    used_bytes: int = 0
    """An estimate. What several checkpoints share counts for each."""
    _checkpoints: OrderedDict[Key, tuple[Checkpoint, ...]] = Factory(OrderedDict)
    """Those of a conversation: the latest first, the fork last."""
    _lock: Lock = Factory(Lock)

    def find(self, key: Key, profile: Profile, history: History) -> tuple[Checkpoint | None, int]:
        """The checkpoint from which this conversation goes on, and where it left longer ones.

        The place is a number of turns, or 0.
        """
        with self._lock:
            known = self._checkpoints.get(key, ())
            if known:
                self._checkpoints.move_to_end(key)
        left = 0
        for checkpoint in known:
            if checkpoint.profile is profile and (turns := checkpoint.turns_in(history)):
                if turns == len(checkpoint.turns):
                    return checkpoint, left if left > turns else 0
                left = max(left, turns)
        return None, left

    def store(self, key: Key, checkpoint: Checkpoint, before: Checkpoint | None) -> None:
        """Add a checkpoint. It takes the place of the one `before`, unless that is a fork.

        If not all of the conversation fit in the memory, the fork is dropped first.
        """
        with self._lock:
            known = self._checkpoints.pop(key, ())
            all_known = [checkpoint, *(one for one in known if one is not before or one.is_fork)]
            latest = [one for one in all_known if not one.is_fork]
            forks = [one for one in all_known if one.is_fork]
            kept = [*latest[:_MAX_LATEST], *forks[:1]]
            while len(kept) > 1 and sum(one.memory for one in kept) > self.max_bytes:
                kept.pop()
            self._checkpoints[key] = tuple(kept)
            self.used_bytes += sum(one.memory for one in kept) - sum(one.memory for one in known)
            self._shrink()

    def resize(self, max_bytes: int) -> None:
        """Change the limit."""
        with self._lock:
            self.max_bytes = max_bytes
            self._shrink()

    def _shrink(self) -> None:
        while self.used_bytes > self.max_bytes:
            _, checkpoints = self._checkpoints.popitem(last=False)
            self.used_bytes -= sum(one.memory for one in checkpoints)


#: The cache of this process. The section `server` has its limit.
CONVERSATIONS = ConversationCache()
