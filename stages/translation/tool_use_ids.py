"""The client's ids of the calls in a response.

Clients return the id of a call unchanged, so it holds what the backend needs back:

    the backend's id          members    the client's id
    ----------------------    -------    -----------------------------------------------------------
    valid for every client    none       the same
    none                      none       a digest of the request and the place of the call
    invalid, or used before   none       an envelope
    any                       some       an envelope; if that is too long, the id as without
                                         members, and the members go into another block

The ids depend on the request and the response alone, so a repeated response has the same ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from attrs import Factory, define, evolve

from stages.chat_completions.tool_calls import is_valid_call_id
from stages.events import ChatRequest
from stages.messages_api.request import ToolUseBlock
from stages.translation.envelope import Envelope, is_sealed, seal_id
from stages.translation.tool_names import short_hash
from stages.wire import json_codec


@define
class ToolUseIds:
    """The ids of one response, different from those of all calls in the conversation."""

    request: ChatRequest
    _used: set[str] = Factory(lambda self: set(_call_ids(self.request)), takes_self=True)
    _seed: bytes = b""
    _count: int = 0

    def next(self, envelope: Envelope) -> tuple[str, Envelope | None]:
        """Return the id of the next call, and what that id cannot hold.

        `envelope` holds the backend's id of the call and the opaque members.
        """
        place, self._count = self._count, self._count + 1
        unchanged = (
            is_valid_call_id(envelope.id)
            and envelope.id not in self._used
            and not is_sealed(envelope.id)
        )
        needs_envelope = envelope.call or envelope.message or (envelope.id and not unchanged)
        if needs_envelope:
            sealed = self._seal(envelope, place)
            if len(sealed) <= self.request.opaque.id_limit:
                return sealed, None
        call_id = envelope.id if unchanged else f"toolu_{self._digest(place, 24)}"
        self._used.add(call_id)
        return call_id, evolve(envelope, call_hash=short_hash(call_id)) if needs_envelope else None

    def _seal(self, envelope: Envelope, place: int) -> str:
        """Return the envelope as an id, with a salt that makes it unique."""
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


def _call_ids(request: ChatRequest) -> Iterator[str]:
    for message in request.resolved.request.messages:
        for block in message.content:
            if isinstance(block, ToolUseBlock):
                yield block.id
