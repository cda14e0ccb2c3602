"""What a backend's body holds, as JSON objects: leniently, where the meaning is sure.

seen                                             taken for
----------------------------------------------   ------------------------------------------
an event that is empty, `null`, or a comment     a keep-alive: no chunk
an event with a whole chunk in each line         these chunks (GLM-4.7 on Baseten)
a stream with the content type of JSON           a stream, by its first bytes
a stream where a whole completion was wanted     a stream
`data: [DONE]` after a whole completion          the end
"""

from __future__ import annotations

import codecs
from typing import Any

from stages.chat_completions.errors import error_in
from stages.messages_api.errors import ApiError, InternalError, drop_traceback
from stages.wire import json_codec

#: What a line of server-sent events begins with.
_FIELDS = (b"data:", b"event:", b"error:", b"id:", b"retry:", b":")
# A list is an error of Gemini's.
_JSON = (b"{", b"[")


def is_stream(body: bytes) -> bool | None:
    """Whether a body that begins so is a stream; None if it is neither a stream nor JSON."""
    begin = body.removeprefix(codecs.BOM_UTF8).lstrip()
    if begin.startswith(_FIELDS):
        return True
    return False if begin.startswith(_JSON) else None


def is_undecided(begin: bytes) -> bool:
    """Whether a body that begins so, as far as it has come, may yet be a stream or JSON."""
    visible = begin.removeprefix(codecs.BOM_UTF8).lstrip()
    return any(whole.startswith(visible) and whole != visible for whole in (*_FIELDS, *_JSON))


def decode_chunk(backend: str, data: bytes) -> dict[str, Any]:
    """The JSON object in `data`. Raises ApiError if there is none, or more."""
    try:
        value = json_codec.decode_answer(data)
    except ValueError as error:
        raise InternalError(
            f"backend `{backend}` sent broken JSON: {error}", quoted=[str(error)]
        ) from error
    if not isinstance(value, dict):  # LangChain would fail at it
        no_object = InternalError(f"backend `{backend}` sent JSON that is no object")
        raise error_in(backend, value) or no_object
    return value


def decode_completion(backend: str, data: bytes) -> dict[str, Any]:
    """The one JSON object of a body that is not a stream."""
    return decode_chunk(backend, data.rstrip().removesuffix(b"data: [DONE]"))


def recover_chunks(backend: str, event: bytes, error: ApiError) -> list[dict[str, Any]]:
    """The chunks of an event that is not one JSON object; raises `error` if it means nothing."""
    said = event.strip()
    if said in (b"", b"null") or said.startswith(b":"):
        drop_traceback(error)
        return []
    lines = said.split(b"\n")
    if len(lines) > 1:
        try:
            chunks = [decode_chunk(backend, line) for line in lines if line.strip()]
        except ApiError as again:
            drop_traceback(again)
        else:
            drop_traceback(error)
            return chunks
    raise error
