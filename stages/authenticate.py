"""The stage `authenticate`."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Iterator, Mapping

from attrs import field, frozen

from pipeline import Send, Stage, option, section
from stages.events import Authenticated, HttpRequest
from stages.keys.config import Key
from stages.messages_api.errors import AuthenticationError

#: Commas of a header at which it is split. Each part costs a digest.
_MAX_REPEATED = 4
#: Makes a browser ask a person for the key.
_CHALLENGE = {"www-authenticate": 'Basic realm="llm-proxy", charset="UTF-8"'}


def _without_empty(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key for key in keys if key)


@frozen
class Authenticate(Stage[HttpRequest, Authenticated]):
    """Refuse requests without a valid key, before their body is read.

    A key is valid if it is in the section `keys` or in the option `keys`; one that is in both has
    the name and the options of the section. A client sends the key as `x-api-key` or as
    `Authorization: Bearer`, or sends both. One of the two may be for another server; which one
    differs by client. So one right key is enough.

    A browser sends neither. With `basic` a person types the key as a password; the user name is
    not read. Browsers add this password also to requests that other pages make, so it is off where
    a request has an effect.
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
    basic: bool = option(
        False,
        help="accept a key also as the password of HTTP Basic authentication, and ask browsers "
        "for it; for pipelines that only show pages",
    )
    named: Mapping[str, Key] | None = section("keys", None)
    """The keys with names. Requests need a key also if the section is empty."""
    _clients: dict[bytes, tuple[str, Key | None]] = field(init=False, repr=False)
    """The client of each key, by the SHA-256 of the key.

    A lookup takes the same time with any number of keys. Its time depends on the digest of what was
    sent, from which nobody can work towards a key.
    """

    @_clients.default
    def _index(self) -> dict[bytes, tuple[str, Key | None]]:
        clients: dict[bytes, tuple[str, Key | None]] = {
            key.digest: (name, key) for name, key in (self.named or {}).items()
        }
        for n, key in enumerate(self.keys, 1):
            clients.setdefault(_digest(_bytes(key)), (f"key-{n}", None))
        return clients

    @property
    def is_open(self) -> bool:
        """Whether requests need no key."""
        return not self.keys and self.named is None

    def handle(self, event: HttpRequest, forward: Send[Authenticated]) -> Awaitable[None]:
        exchange = event.exchange
        if self.is_open:
            exchange.client = "anonymous"
            return forward(Authenticated(event))
        given = [*_keys(event), *(_passwords(event) if self.basic else ())]
        if not given:
            typed = ", or type it as the password" if self.basic else ""
            raise self._error(
                f"no API key was given: send it as x-api-key or as Authorization: Bearer{typed}"
            )
        unusable = ""
        for client, key in self._matches(given):
            exchange.client = client
            if key is None:
                return forward(Authenticated(event))
            if not (key.disabled or key.expired):
                exchange.allowed_models = key.allowed_models
                return forward(Authenticated(event))
            # Only the owner of the key can see this.
            unusable = ": this key is disabled" if key.disabled else ": this key has expired"
        raise self._error(f"invalid x-api-key{unusable}")

    def _error(self, message: str) -> AuthenticationError:
        return AuthenticationError(message, headers=_CHALLENGE if self.basic else {})

    def _matches(self, given: list[str]) -> Iterator[tuple[str, Key | None]]:
        """Yield the clients of the keys that are equal to one of `given`."""
        for text in given:
            # A header is read as Latin-1; its bytes may be the key in UTF-8 or in Latin-1.
            client = self._clients.get(_digest(_bytes(text)))
            if client is None and not text.isascii():
                client = self._clients.get(_digest(text.encode("latin-1", "backslashreplace")))
            if client:
                yield client


def _keys(request: HttpRequest) -> list[str]:
    """The keys in both headers. A header that came twice is joined with a comma."""
    keys = _repeated(request.headers.get("x-api-key", ""))
    for value in _repeated(request.headers.get("authorization", "")):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            keys.append(token.strip(" \t"))
    return [key for key in keys if key]


def _passwords(request: HttpRequest) -> list[str]:
    """The passwords of HTTP Basic authentication (RFC 7617)."""
    passwords = []
    for value in _repeated(request.headers.get("authorization", "")):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "basic":
            with contextlib.suppress(ValueError):
                text = base64.b64decode(token.strip(" \t"), validate=True).decode("latin-1")
                passwords.append(text.partition(":")[2])
    return [password for password in passwords if password]


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
