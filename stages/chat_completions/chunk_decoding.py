"""Decode a backend's body into JSON objects. Tolerate deviations whose meaning is certain.

received                                         read as
----------------------------------------------   ------------------------------------------
an event that is empty, `null`, or a comment     a keep-alive: no chunk
an event with a whole chunk in each line         these chunks (GLM-4.7 on Baseten)
a stream with the content type of JSON           a stream, by its first bytes
a stream where a completion was requested         a stream
`data: [DONE]` after a whole completion          the end
"""

from __future__ import annotations

import codecs
import functools
from typing import Any

from stages.chat_completions.errors import error_in_document
from stages.messages_api.errors import ApiError, InternalError, drop_traceback
from stages.wire import json_codec

#: Beginnings of a line of server-sent events.
_FIELDS = (b"data:", b"event:", b"error:", b"id:", b"retry:", b":")
# A list is an error from Gemini.
_JSON = (b"{", b"[")


@functools.lru_cache(maxsize=100)
def media_type(content_type: str) -> str:
    """The media type in a header, without parameters, in lower case."""
    content_type = content_type.encode("utf-8", "replace").decode()  # it may contain surrogates
    return content_type.partition(";")[0].strip().lower()


def is_stream(body: bytes) -> bool | None:
    """Whether a body with this beginning is a stream; None if it is neither a stream nor JSON."""
    begin = body.removeprefix(codecs.BOM_UTF8).lstrip()
    if begin.startswith(_FIELDS):
        return True
    return False if begin.startswith(_JSON) else None


def is_undecided(begin: bytes) -> bool:
    """Whether more bytes are needed to see that a body is a stream or JSON."""
    visible = begin.removeprefix(codecs.BOM_UTF8).lstrip()
    begins = (*_FIELDS, *_JSON, codecs.BOM_UTF8)
    return any(sign.startswith(visible) and sign != visible for sign in begins)


def decode_chunk(backend: str, data: bytes) -> dict[str, Any]:
    """The one JSON object in `data`. Raises ApiError if `data` is anything else."""
    try:
        value = json_codec.decode_lenient(data)
    except ValueError as error:
        raise InternalError(
            f"backend `{backend}` sent broken JSON: {error}", quoted=[str(error)]
        ) from error
    if not isinstance(value, dict):  # LangChain would fail at it
        not_an_object = InternalError(f"backend `{backend}` sent JSON that is not an object")
        raise error_in_document(backend, value) or not_an_object
    return value


def decode_completion(backend: str, data: bytes) -> dict[str, Any]:
    """The one JSON object of a body that is not a stream. Raises ApiError."""
    document = data.removeprefix(codecs.BOM_UTF8).rstrip().removesuffix(b"data: [DONE]")
    return decode_chunk(backend, document)


def recover_chunks(backend: str, event: bytes, error: ApiError) -> list[dict[str, Any]]:
    """The chunks of an event that is not one JSON object. Raises `error` if it has none."""
    text = event.strip()
    if text in (b"", b"null") or text.startswith(b":"):
        drop_traceback(error)
        return []
    lines = text.split(b"\n")
    if len(lines) > 1:
        try:
            chunks = [decode_chunk(backend, line) for line in lines if line.strip()]
        except ApiError as line_error:
            drop_traceback(line_error)
        else:
            drop_traceback(error)
            return chunks
    raise error
