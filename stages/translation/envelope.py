"""What a backend attaches to its answer and needs again, on its way through the client.

Clients return three things unchanged: the id of a call, the signature of a thinking block, and a
`redacted_thinking` block. Each can hold an envelope, so nothing is stored here. An envelope is

    llmp2_ BASE64URL( CRC32 of the JSON, DEFLATE of the JSON )

without padding: it is valid as an id (`^[a-zA-Z0-9_-]+$`), the same each time, and known to be cut
or altered where it is. An id has `toolu_` before it, as those of the API.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
import zlib
from typing import Any

from attrs import Factory, frozen

from stages.wire import json_codec

_MARK = "llmp2_"
_ID_PREFIX = "toolu_"
#: How envelopes begin.
SEALED = (_MARK, _ID_PREFIX + _MARK)
_OURS = re.compile(f"(?:{_ID_PREFIX})?{_MARK}([a-zA-Z0-9_-]*)")
_CHECKSUM = 4
#: What envelopes have in common, so that it takes no space in them: an id of Kimi has 54
#: characters with it, and 85 without. It is part of the format: another one needs another mark.
_COMMON = (
    b'"reasoning_opaque":"","reasoning_text":"","reasoning_content":"","call_0","toolu_'
    b'{"type":"reasoning","summary":[{"type":"summary_text","text":"","signature":"'
    b'{"reasoning_details":[{"type":"reasoning.encrypted","data":"","format":"google-gemini-v1",'
    b'"index":0,"id":"tool_","type":"reasoning.text","text":"","format":"anthropic-claude-v1"}]}'
    b'"c":{"extra_content":{"google":{"thought_signature":"","m":{"content":[{'
    b'","i":"call_","t":","f":","i":"functions.","s":"","o":"'
)
#: An envelope may be so many times longer than what holds it: so nobody can fill the memory with a
#: small one. What could be packed better is not packed.
_MAX_RATIO = 20


class BrokenEnvelopeError(ValueError):
    """An envelope of ours that was cut or altered."""


@frozen
class Envelope:
    """What belongs to one part of an answer. `owner` attached it; see `owner_of`."""

    owner: str
    id: str = ""
    """The id that the backend gave the call."""
    call: dict[str, Any] = Factory(dict)
    """Members of the call."""
    message: dict[str, Any] = Factory(dict)
    """Members of the message."""
    text: str = ""
    """Thinking that the client does not want to see."""
    of: str = ""
    """Which call it is about, where not that whose id holds it: `short_hash` of the client's id."""
    salt: str = ""
    """Makes ids differ."""


#: Names of the fields in the JSON, and the types that they have.
_NAMES = {"id": "i", "call": "c", "message": "m", "text": "t", "of": "f", "salt": "s"}
_TYPES: dict[str, type] = {"call": dict, "message": dict}


@functools.lru_cache(maxsize=1000)
def owner_of(backend: str, model: str) -> str:
    """Who gets an envelope back: one model of one backend. A digest: clients learn no names."""
    digest = hashlib.sha256(f"{backend}\0{model}".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:6]


def seal(envelope: Envelope) -> str:
    """The envelope as text."""
    given = {short: getattr(envelope, name) for name, short in _NAMES.items()}
    held = {short: value for short, value in given.items() if value}
    data = json_codec.encode({**held, "o": envelope.owner})
    packed = _packed(data, 9)
    if len(data) > _MAX_RATIO * len(packed):
        packed = _packed(data, 0)
    whole = zlib.crc32(data).to_bytes(_CHECKSUM) + packed
    return _MARK + base64.urlsafe_b64encode(whole).decode().rstrip("=")


def seal_id(envelope: Envelope) -> str:
    """The envelope as the id of a call."""
    return _ID_PREFIX + seal(envelope)


def is_sealed(text: str) -> bool:
    """Whether `text` begins as an envelope does."""
    return text.startswith(SEALED)


def unseal(sealed: str) -> Envelope | None:
    """The envelope; None if it is none of ours. Raises BrokenEnvelopeError."""
    if not is_sealed(sealed):
        return None
    found = _OURS.fullmatch(sealed)
    try:
        if found is None:
            raise ValueError(sealed)
        data = _unpacked(base64.urlsafe_b64decode(found[1] + "=" * (-len(found[1]) % 4)))
        return _structured(json_codec.decode(data))
    except (ValueError, zlib.error) as error:
        raise BrokenEnvelopeError("the envelope was cut or altered") from error


def _packed(data: bytes, level: int) -> bytes:
    packer = zlib.compressobj(level, wbits=-15, zdict=_COMMON)
    return packer.compress(data) + packer.flush()


def _unpacked(whole: bytes) -> bytes:
    checksum, packed = whole[:_CHECKSUM], whole[_CHECKSUM:]
    unpacker = zlib.decompressobj(wbits=-15, zdict=_COMMON)
    data = unpacker.decompress(packed, _MAX_RATIO * len(packed) + 1)
    if not unpacker.eof or unpacker.unused_data or zlib.crc32(data).to_bytes(_CHECKSUM) != checksum:
        raise ValueError("not whole")
    return data


def _structured(held: Any) -> Envelope:
    if not isinstance(held, dict) or not isinstance(held.get("o"), str):
        raise ValueError("no owner")
    given = {name: held[short] for name, short in _NAMES.items() if short in held}
    for name, value in given.items():
        if type(value) is not _TYPES.get(name, str):
            raise ValueError(f"{name} is of another type")
    return Envelope(held["o"], **given)
