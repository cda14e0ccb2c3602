"""The stage `authenticate`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable

from attrs import field, frozen

from pipeline import Send, Stage, option
from stages.events import Authenticated, HttpRequest
from stages.messages_api.errors import AuthenticationError

#: Commas of a header at which it is split. Each part costs a digest.
_MAX_REPEATED = 4


def _without_empty(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if key)


@frozen
class Authenticate(Stage[HttpRequest, Authenticated]):
    """Refuse requests without one of `keys`, before their body is read.

    A client sends the key as `x-api-key` or as `Authorization: Bearer`, or sends both. One of the
    two may be for another server; which one differs by client. So one right key is enough.
    """

    keys: tuple[str, ...] = option(
        (),
        secret=True,
        help="keys that are accepted; without this option, the value of PROXY_API_KEY",
        variable="PROXY_API_KEY",
        converter=_without_empty,
        repr=False,
    )
    allow_anonymous: bool = option(
        False,
        help="without keys, accept every request also on addresses other than loopback",
    )
    _digests: tuple[bytes, ...] = field(init=False, repr=False)

    @_digests.default
    def _hash_keys(self) -> tuple[bytes, ...]:
        return tuple(_digest(_bytes(key)) for key in self.keys)

    @property
    def is_open(self) -> bool:
        """Whether requests need no key."""
        return not self.keys

    def handle(self, event: HttpRequest, forward: Send[Authenticated]) -> Awaitable[None]:
        if self.is_open:
            event.exchange.client = "anonymous"
            return forward(Authenticated(event))
        given = _keys(event)
        if not given:
            raise AuthenticationError(
                "no API key was given: send it as x-api-key or as Authorization: Bearer"
            )
        matches = [n for key in given for n in self._matches(key)]
        if not matches:
            raise AuthenticationError("invalid x-api-key")
        event.exchange.client = f"key-{matches[0]}"
        return forward(Authenticated(event))

    def _matches(self, given: str) -> list[int]:
        """The numbers of the keys that are equal to `given`, from 1.

        All digests have the same length, and all are compared. So the time that this takes does not
        depend on the keys.
        """
        # A header is read as Latin-1; its bytes may be the key in UTF-8 or in Latin-1.
        text = _digest(_bytes(given))
        raw = text if given.isascii() else _digest(given.encode("latin-1", "backslashreplace"))
        matches = [
            hmac.compare_digest(raw, digest) | hmac.compare_digest(text, digest)
            for digest in self._digests
        ]
        return [n for n, same in enumerate(matches, 1) if same]


def _keys(request: HttpRequest) -> list[str]:
    """The keys in both headers. A header that came twice is joined with a comma."""
    keys = _repeated(request.headers.get("x-api-key", ""))
    for value in _repeated(request.headers.get("authorization", "")):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            keys.append(token.strip(" \t"))
    return [key for key in keys if key]


def _repeated(header: str) -> list[str]:
    """The whole value, and its parts between commas: a key may contain a comma."""
    if not header:
        return []
    if "," not in header:
        return [header.strip(" \t")]
    return [header, *(part.strip(" \t") for part in header.split(",", _MAX_REPEATED))]


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
