"""Envelopes carry data that a backend needs back in the next turn through the client.

Clients return three things unchanged: the id of a call, the signature of a thinking block, and a
`redacted_thinking` block. Each can hold an envelope, so the proxy stores nothing. An envelope is

    llmp2_ BASE64URL( CRC32 of the JSON, DEFLATE of the JSON )

without padding. It is a valid id (`^[a-zA-Z0-9_-]+$`), the same text for the same data, and the
checksum shows whether it was cut or altered. An id begins with `toolu_`, like those of the API.
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
#: The prefixes of envelopes: in a block, and as an id.
SEALED = (_MARK, _ID_PREFIX + _MARK)
_ENVELOPE = re.compile(f"(?:{_ID_PREFIX})?{_MARK}([a-zA-Z0-9_-]*)")
_CHECKSUM = 4
#: The compression dictionary, of text that many envelopes contain. With it an id of Kimi has 54
#: characters, without it 85. It is part of the format: a changed dictionary needs another mark.
_DICTIONARY = (
    b'"reasoning_opaque":"","reasoning_text":"","reasoning_content":"","call_0","toolu_'
    b'{"type":"reasoning","summary":[{"type":"summary_text","text":"","signature":"'
    b'{"reasoning_details":[{"type":"reasoning.encrypted","data":"","format":"google-gemini-v1",'
    b'"index":0,"id":"tool_","type":"reasoning.text","text":"","format":"anthropic-claude-v1"}]}'
    b'"c":{"extra_content":{"google":{"thought_signature":"","m":{"content":[{'
    b'","i":"call_","t":","f":","i":"functions.","s":"","o":"'
)
#: The JSON may be at most this many times longer than its compressed form, so that a small envelope
#: cannot fill the memory. JSON that compresses better is stored without compression.
_MAX_RATIO = 20


class BrokenEnvelopeError(ValueError):
    """An envelope of this proxy was cut or altered."""


@frozen
class Envelope:
    """Data of one content block of a response, for its `owner`; see `owner_of`."""

    owner: str
    id: str = ""
    """The backend's id of the call."""
    call: dict[str, Any] = Factory(dict)
    """Opaque members of the call."""
    message: dict[str, Any] = Factory(dict)
    """Opaque members of the message."""
    text: str = ""
    """Thinking that is hidden from the client."""
    call_hash: str = ""
    """`short_hash` of the client's id of the call, if that id does not hold the envelope."""
    salt: str = ""
    """Makes ids unique."""


#: The names of the fields in the JSON, and the types of those that are not strings.
_NAMES = {"id": "i", "call": "c", "message": "m", "text": "t", "call_hash": "f", "salt": "s"}
_TYPES: dict[str, type] = {"call": dict, "message": dict}


@functools.lru_cache(maxsize=1000)
def owner_of(backend: str, model: str) -> str:
    """Return the owner of an envelope: one model of one backend.

    It is a digest, so clients learn no names.
    """
    digest = hashlib.sha256(f"{backend}\0{model}".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode()[:6]


def seal(envelope: Envelope) -> str:
    """Return the envelope as text."""
    values = {short: getattr(envelope, name) for name, short in _NAMES.items()}
    members = {short: value for short, value in values.items() if value}
    data = json_codec.encode({**members, "o": envelope.owner})
    compressed = _compress(data, 9)
    if len(data) > _MAX_RATIO * len(compressed):
        compressed = _compress(data, 0)
    payload = zlib.crc32(data).to_bytes(_CHECKSUM) + compressed
    return _MARK + base64.urlsafe_b64encode(payload).decode().rstrip("=")


def seal_id(envelope: Envelope) -> str:
    """Return the envelope as the id of a call."""
    return _ID_PREFIX + seal(envelope)


def is_sealed(text: str) -> bool:
    """Whether `text` begins like an envelope."""
    return text.startswith(SEALED)


def unseal(sealed: str) -> Envelope | None:
    """Return the envelope; None for other text. Raises BrokenEnvelopeError."""
    if not is_sealed(sealed):
        return None
    match = _ENVELOPE.fullmatch(sealed)
    try:
        if match is None:
            raise ValueError(sealed)
        data = _decompress(base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)))
        return _structure(json_codec.decode(data))
    except (ValueError, zlib.error) as error:
        raise BrokenEnvelopeError("the envelope was cut or altered") from error


def _compress(data: bytes, level: int) -> bytes:
    compressor = zlib.compressobj(level, wbits=-15, zdict=_DICTIONARY)
    return compressor.compress(data) + compressor.flush()


def _decompress(payload: bytes) -> bytes:
    checksum, compressed = payload[:_CHECKSUM], payload[_CHECKSUM:]
    decompressor = zlib.decompressobj(wbits=-15, zdict=_DICTIONARY)
    data = decompressor.decompress(compressed, _MAX_RATIO * len(compressed) + 1)
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("incomplete")
    if zlib.crc32(data).to_bytes(_CHECKSUM) != checksum:
        raise ValueError("altered")
    return data


def _structure(value: Any) -> Envelope:
    if not isinstance(value, dict) or not isinstance(value.get("o"), str):
        raise ValueError("no owner")
    fields = {name: value[short] for name, short in _NAMES.items() if short in value}
    for name, member in fields.items():
        if type(member) is not _TYPES.get(name, str):
            raise ValueError(f"{name} has another type")
    return Envelope(value["o"], **fields)
