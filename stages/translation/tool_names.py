"""Tool names and call ids in the form that a backend accepts.

Nothing is stored: a name or an id is always changed in the same way. Therefore the same
conversation has the same bytes each time (prefix caches), and the client's name of a tool is found
among the tools of the request.
"""

from __future__ import annotations

import hashlib

from stages.chat_completions.tool_calls import is_valid_call_id

_HASH = 8


def short_name(name: str, limit: int) -> str:
    """Return `name`; if it is longer than `limit`, its beginning and a hash of the whole."""
    if len(name) <= limit:
        return name
    return f"{name[: limit - _HASH - 1]}_{_digest(name, _HASH)}"


def hashed_id(call_id: str) -> str:
    """Return an id that every backend accepts in place of `call_id`."""
    return f"call_{_digest(call_id, 24)}"


def short_hash(call_id: str) -> str:
    """Return eight characters that distinguish the ids of one message."""
    return _digest(call_id, _HASH)


def backend_call_id(call_id: str, limit: int, length: int | None = None) -> str:
    """Return `call_id`, or a hash of it if the backend does not accept it.

    An id must have at most `limit` valid characters, or exactly `length` letters and digits.
    """
    if length is not None:
        fits = len(call_id) == length and call_id.isascii() and call_id.isalnum()
        return call_id if fits else _digest(call_id, length)
    if is_valid_call_id(call_id, limit):
        return call_id
    return f"call_{_digest(call_id, min(24, limit - 5))}"


class CallIdMap:
    """Maps the client's call ids of one conversation to backend ids, each different.

    Some backends use `call_0` in every turn. Without the map, a result would belong to the wrong
    call.
    """

    def __init__(self, limit: int, length: int | None = None) -> None:
        self._limit = limit
        self._length = length
        self._used: set[str] = set()
        self._times: dict[str, int] = {}

    def __len__(self) -> int:
        """How many calls there are."""
        return len(self._used)

    def copy(self) -> CallIdMap:
        """Return the map of a conversation that begins in the same way."""
        copied = CallIdMap(self._limit, self._length)
        copied._used, copied._times = self._used.copy(), self._times.copy()
        return copied

    def next(self, client_id: str, backend_id: str = "") -> str:
        """Return the id of the next call.

        `backend_id` is the id that the backend itself gave to the call. It is used unchanged
        unless an earlier call has it.
        """
        if backend_id:
            if backend_id not in self._used:
                self._used.add(backend_id)
                return backend_id
            client_id = backend_id
        while True:
            self._times[client_id] = times = self._times.get(client_id, 0) + 1
            candidate = client_id if times == 1 else f"{client_id}-{times}"
            call_id = backend_call_id(candidate, self._limit, self._length)
            if call_id not in self._used:
                self._used.add(call_id)
                return call_id


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
