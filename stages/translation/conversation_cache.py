"""The conversations that were rendered before.

An agent sends its whole conversation with each request. The turns that the request before had too
are rendered only once. A conversation is known by the identity of its blocks: `PartCache` gives
the same objects for the same bytes. So a wrong hit is impossible.

    the request has                                   rendered are
    ----------------------------------------------    ---------------------------------
    the turns of the checkpoint, and further ones     the further ones
    other turns, another system prompt, or another    all turns
      profile

The checkpoint of a conversation is the state before its last turn, because the next request may
extend that turn. It refers weakly to the blocks: it can be found only while `PartCache` has them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from operator import is_
from threading import Lock
from typing import Any
from weakref import ReferenceType, ref

from attrs import Factory, define, frozen

from stages.exchange import Degradation
from stages.messages_api.request import Block
from stages.profiles.profile import Profile
from stages.translation.history import History, Turn
from stages.wire.json_codec import EncodedMessages

#: The memory of a message besides its JSON. Its text is mostly the same object as in PartCache.
_MEMORY_PER_MESSAGE = 1000

#: A turn whose blocks may be gone.
WeakTurn = tuple[str, list[ReferenceType[Block]]]
#: The profile, the owner, whether it is strict, and the conversation's first block.
Key = tuple[int, str, bool, int]


@frozen(eq=False)
class Checkpoint:
    """A conversation up to a turn. It must not be changed: other requests share it."""

    profile: Profile
    system: str
    """The system prompt."""
    turns: list[WeakTurn]
    """The turns that are rendered."""
    state: Any
    """The renderer after these turns."""
    degradations: tuple[Degradation, ...]
    """Those of these turns."""
    encoded: EncodedMessages
    """The rendered messages with their JSON."""
    memory: int
    """Bytes, estimated."""

    def begins(self, history: History) -> bool:
        """Whether `history` begins with these turns, and has more."""
        return (
            len(self.turns) < len(history.turns)
            and self.system == history.system
            and all(map(_same, self.turns, history.turns))
        )


def weak_turn(turn: Turn) -> WeakTurn:
    """Return a turn that does not keep its blocks in memory."""
    return turn[0], list(map(ref, turn[1]))


def _same(old: WeakTurn, new: Turn) -> bool:
    """Whether two turns have the same objects as blocks. Equal ones may differ: 1 == True."""
    if old[0] != new[0] or len(old[1]) != len(new[1]):
        return False
    return all(map(is_, [block() for block in old[1]], new[1]))


def memory_of(messages: Iterable[tuple[dict[str, Any], bytes]]) -> int:
    """Estimate the bytes of rendered messages with their JSON."""
    return sum(_MEMORY_PER_MESSAGE + len(data) for _, data in messages)


@define(eq=False)
class ConversationCache:
    """The latest checkpoint of each conversation, the least recently used first."""

    max_bytes: int = 0
    used_bytes: int = 0
    _checkpoints: OrderedDict[Key, Checkpoint] = Factory(OrderedDict)
    _lock: Lock = Factory(Lock)

    def find(self, key: Key, profile: Profile, history: History) -> Checkpoint | None:
        """The checkpoint that this conversation may go on from."""
        with self._lock:
            checkpoint = self._checkpoints.get(key)
            if checkpoint is None or checkpoint.profile is not profile:
                return None
            self._checkpoints.move_to_end(key)
        return checkpoint if checkpoint.begins(history) else None

    def store(self, key: Key, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint of this conversation."""
        with self._lock:
            if old := self._checkpoints.pop(key, None):
                self.used_bytes -= old.memory
            self._checkpoints[key] = checkpoint
            self.used_bytes += checkpoint.memory
            self._shrink()

    def resize(self, max_bytes: int) -> None:
        """Change the limit."""
        with self._lock:
            self.max_bytes = max_bytes
            self._shrink()

    def _shrink(self) -> None:
        while self.used_bytes > self.max_bytes:
            _, checkpoint = self._checkpoints.popitem(last=False)
            self.used_bytes -= checkpoint.memory


#: The cache of this process. The section `server` has its limit.
CONVERSATIONS = ConversationCache()
