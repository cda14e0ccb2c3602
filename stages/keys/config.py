"""The section `keys`: the API keys of clients, by name."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

from attrs import field, frozen

from pipeline import option
from pipeline.config.options import OptionError, text_pattern
from stages.limits.config import Limits
from stages.routing.allowed_models import AllowedModels

_DIGEST = re.compile(r"[0-9a-fA-F]{64}")
#: Names appear in logs, in the usage record and on the command line.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
#: The names of clients without an entry in `keys`.
RESERVED_NAME = re.compile(r"anonymous|key-[0-9]+")

_NO_LIMITS = Limits()


def _all_but_digests(text: str) -> list[tuple[int, int]]:
    """The secret part of `sha256`: a digest is none, but a key by mistake is."""
    return [] if _DIGEST.fullmatch(text) else [(0, len(text))]


@text_pattern(_DIGEST.pattern)
def _check_digest(_: Any, __: Any, value: str) -> None:
    if not _DIGEST.fullmatch(value):
        hint = "let `llm-proxy keys new NAME` write it, or use `printf %s KEY | sha256sum`"
        raise OptionError("sha256", "`sha256` is not 64 hexadecimal digits", hint)


@text_pattern(r"\d{4}-?(\d\d-?\d\d|W\d\d(-?\d)?)(.\d.*)?")  # ISO 8601, with or without a time
def _check_time(_: Any, attribute: Any, value: str | None) -> None:
    if value is None:
        return
    try:
        parse_time(value)
    except ValueError:
        hint = "write it as 2027-01-31 or 2027-01-31T18:00:00Z"
        message = f"`{attribute.name}` is not a date or a time"
        raise OptionError(attribute.name, message, hint) from None


@frozen
class Key:
    """An API key of a client. Its name is the client's in the log and in the usage record."""

    sha256: str = option(
        help="the SHA-256 of the key in hexadecimal digits, as `llm-proxy keys new` writes it",
        secret=_all_but_digests,
        validator=_check_digest,
    )
    models: tuple[str, ...] | None = option(
        None,
        help="the names or patterns of models that the client may ask for; default: all",
    )
    limits: Limits = option(
        factory=lambda: _NO_LIMITS, help="the limits of this key, for the stage `limit`"
    )
    expires: str | None = option(
        None,
        help="the UTC time from which the key is refused, as 2027-01-31T18:00:00Z; a date means "
        "the beginning of the day; default: never",
        validator=_check_time,
    )
    disabled: bool = option(False, help="refuse the key")
    created: str | None = option(None, help="the day on which it was made", validator=_check_time)
    digest: bytes = field(init=False, repr=False)
    allowed_models: AllowedModels | None = field(init=False, repr=False)
    _end: float | None = field(init=False, repr=False)
    """Unix time."""

    @digest.default
    def _read_digest(self) -> bytes:
        return bytes.fromhex(self.sha256) if _DIGEST.fullmatch(self.sha256) else b""

    @allowed_models.default
    def _compile_models(self) -> AllowedModels | None:
        return None if self.models is None else AllowedModels(self.models)

    @_end.default
    def _read_end(self) -> float | None:
        try:
            return parse_time(self.expires).timestamp() if self.expires else None
        except ValueError:  # its validator, which runs later, reports it
            return None

    @property
    def expired(self) -> bool:
        """Whether `expires` has passed."""
        return self._end is not None and time.time() >= self._end


def parse_time(text: str) -> datetime:
    """Read an ISO date or time; without an offset it is in UTC. Raises ValueError."""
    value = datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=UTC)
