"""The conversations that were rendered before.

An agent sends its whole conversation with each request. The turns that the request before had too
are rendered only once. A conversation is known by the identity of its messages and
their blocks: `PartCache` gives the same objects for the same bytes. So a wrong hit is impossible.

    the request has                                   rendered are
    ----------------------------------------------    ---------------------------------
    the turns of the checkpoint, and further ones     the further ones
    other turns, another system prompt, or another    all turns
      profile

The checkpoint of a conversation is the state before its last turn, because the next request may
extend that turn. It refers weakly to the blocks: it can be found only while `PartCache` has them.
The next checkpoint shares its rendered messages and their JSON.
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

#: The memory of a message besides its JSON. Its text is mostly the same object as in PartCache.
_MEMORY_PER_MESSAGE = 1000
#: Pieces of a conversation's JSON. Joining all of them copies the conversation.
_MAX_CHUNKS = 16

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
    turns: list[WeakTurn]
    """The turns that are rendered."""
    state: Any
    """The renderer after these turns."""
    degradations: tuple[Degradation, ...]
    """Those of these turns."""
    encoded: EncodedParts
    """The rendered messages with their JSON."""

    @property
    def memory(self) -> int:
        """The bytes of memory, estimated."""
        return _MEMORY_PER_MESSAGE * len(self.state.messages) + self.encoded.memory

    def begins(self, history: History) -> bool:
        """Whether `history` begins with these turns, and has more."""
        if len(self.turns) >= len(history.turns) or self.system != history.system:
            return False
        if all(map(is_, [turn.message() for turn in self.turns], history.turns)):
            return True
        return all(
            old.message() is new or old.has_blocks_of(new)
            for old, new in zip(self.turns, history.turns, strict=False)
        )


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
