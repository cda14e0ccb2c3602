"""The stage `authenticate`."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable

from attrs import field, frozen

from pipeline import Send, Stage, option
from stages.events import Authenticated, HttpRequest
from stages.wire.errors import AuthenticationError


def _without_empty(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if key)


@frozen
class Authenticate(Stage[HttpRequest, Authenticated]):
    """Lets only requests with one of `keys` pass, before their body is read.

    The key comes as `x-api-key` or as `Authorization: Bearer`; with both, `x-api-key` counts,
    because the other may be a token meant for somebody else.
    """

    keys: tuple[str, ...] = option(
        (),
        help="accepted keys; else PROXY_API_KEY",
        variable="PROXY_API_KEY",
        converter=_without_empty,
        repr=False,
    )
    allow_anonymous: bool = option(
        False, help="with no keys, let everybody in on addresses other than loopback too"
    )
    _digests: tuple[bytes, ...] = field(init=False, repr=False)

    @_digests.default
    def _hash_keys(self) -> tuple[bytes, ...]:
        return tuple(_digest(_bytes(key)) for key in self.keys)

    @property
    def open_door(self) -> bool:
        """Whether everybody is let in."""
        return not self.keys

    def handle(self, event: HttpRequest, forward: Send[Authenticated]) -> Awaitable[None]:
        if self.open_door:
            return forward(Authenticated(event, "anonymous"))
        given = _key(event)
        if not given:
            raise AuthenticationError(
                "no API key was given: send it as x-api-key or as Authorization: Bearer"
            )
        # Digests have one length, so comparing them tells nothing of the key's; and all are
        # compared, so the time does not tell which one came near.
        # A header is read as Latin-1; its bytes may be the key in UTF-8 or in Latin-1.
        text = _digest(_bytes(given))
        raw = text if given.isascii() else _digest(given.encode("latin-1", "backslashreplace"))
        matches = [
            hmac.compare_digest(raw, known) | hmac.compare_digest(text, known)
            for known in self._digests
        ]
        if not any(matches):
            raise AuthenticationError("invalid x-api-key")
        return forward(Authenticated(event, f"key-{matches.index(True) + 1}"))


def _key(request: HttpRequest) -> str:
    if key := request.headers.get("x-api-key"):
        return key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip(" \t") if scheme.lower() == "bearer" else ""


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
