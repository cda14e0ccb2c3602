"""Tool names and ids of tool calls in the shape a backend takes, and back.

Nothing is stored: a name or an id is always changed in the same way, so the same conversation
has the same bytes each time (prefix caches), and a name is found again among the request's tools.
"""

from __future__ import annotations

import hashlib
from collections import Counter

from stages.chat_completions.tool_calls import is_valid_call_id

_HASH = 8


def short_name(name: str, limit: int) -> str:
    """`name`, or if it is over the limit its beginning and a hash of the whole."""
    if len(name) <= limit:
        return name
    return f"{name[: limit - _HASH - 1]}_{_digest(name, _HASH)}"


def hashed_id(identity: str) -> str:
    """An id that every backend takes, in place of `identity`."""
    return f"call_{_digest(identity, 24)}"


def short_hash(identity: str) -> str:
    """Eight characters that tell the ids of one message apart."""
    return _digest(identity, _HASH)


def backend_call_id(identity: str, limit: int, exactly: int | None = None) -> str:
    """`identity`, or a hash of it, if it is over the limit, not `exactly` so long, or odd."""
    if exactly is not None:
        fits = len(identity) == exactly and identity.isascii() and identity.isalnum()
        return identity if fits else _digest(identity, exactly)
    return (
        identity
        if is_valid_call_id(identity, limit)
        else f"call_{_digest(identity, min(24, limit - 5))}"
    )


class CallIdMap:
    """The ids of the calls of one conversation, each made different from all before it.

    Some backends use `call_0` in every turn; a result would then belong to the wrong call.
    """

    def __init__(self, limit: int, exactly: int | None = None) -> None:
        self._limit = limit
        self._exactly = exactly
        self._given: set[str] = set()
        self._times: Counter[str] = Counter()

    def next(self, identity: str, own: str = "") -> str:
        """The id for the next call that the client knows as `identity`.

        `own` is what the backend itself called it: it takes that, whatever it is like.
        """
        if own:
            if own not in self._given:
                self._given.add(own)
                return own
            identity = own
        while True:
            self._times[identity] += 1
            times = self._times[identity]
            wanted = identity if times == 1 else f"{identity}-{times}"
            fit = backend_call_id(wanted, self._limit, self._exactly)
            if fit not in self._given:
                self._given.add(fit)
                return fit


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
