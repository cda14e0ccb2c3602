"""The ids that the calls of an answer have for the client.

Clients return the id of a call as it is, so it holds what the backend needs again:

    the backend's id         members    the client's id
    ---------------------    -------    ------------------------------------------------------------
    fit for every client     none       the same
    none                     none       made from the request, and the place of the call
    unfit, or used before    none       an envelope
    any                      some       an envelope, or if that is too long the id as it would be
                                        without them; they go into another block then

An id depends on the request and on the answer alone, so an answer that is given again has the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from attrs import Factory, define, evolve

from stages.events import ChatRequest
from stages.messages_api.request import ToolUseBlock
from stages.translation.envelope import Envelope, is_sealed, seal_id
from stages.translation.tool_names import is_valid_call_id, short_hash
from stages.wire import json_codec


@define
class ToolUseIds:
    """The ids of one answer; no call of the conversation has the same."""

    request: ChatRequest
    _used: set[str] = Factory(lambda self: set(_ids_of(self.request)), takes_self=True)
    _seed: bytes = b""
    _count: int = 0

    def next(self, envelope: Envelope) -> tuple[str, Envelope | None]:
        """The id for the next call, and what belongs to it that the id cannot hold.

        `envelope` has the backend's id of it, and what came with it.
        """
        place, self._count = self._count, self._count + 1
        plain = (
            is_valid_call_id(envelope.id)
            and envelope.id not in self._used
            and not is_sealed(envelope.id)
        )
        holds = envelope.call or envelope.message or (envelope.id and not plain)
        if holds:
            sealed = self._salted(envelope, place)
            if len(sealed) <= self.request.opaque.id_limit:
                return sealed, None
        identity = envelope.id if plain else f"toolu_{self._digest(place, 24)}"
        self._used.add(identity)
        return identity, evolve(envelope, of=short_hash(identity)) if holds else None

    def _salted(self, envelope: Envelope, place: int) -> str:
        length = 4
        while (sealed := seal_id(evolve(envelope, salt=self._digest(place, length)))) in self._used:
            length += 1
        self._used.add(sealed)
        return sealed

    def _digest(self, place: int, length: int) -> str:
        if not self._seed:
            messages = self.request.messages
            self._seed = hashlib.sha256(json_codec.encode([len(messages), messages[-1:]])).digest()
        return hashlib.sha256(b"%b %d" % (self._seed, place)).hexdigest()[:length]


def _ids_of(request: ChatRequest) -> Iterator[str]:
    for message in request.resolved.request.messages:
        for block in message.content:
            if isinstance(block, ToolUseBlock):
                yield block.id
