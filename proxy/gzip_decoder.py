"""An incremental decoder of gzip bodies."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from attrs import define, field

from stages.messages_api.errors import InvalidRequestError

_GZIP = 16 + zlib.MAX_WBITS
#: Bytes per step: input, which zlib copies again for each member, and output.
_MAX_INPUT, _MAX_OUTPUT = 16 * 1024, 256 * 1024
#: A body may consist of several gzip members. Empty ones would cost time for nothing.
_MAX_MEMBERS = 1000


@define
class GzipDecoder:
    """Decompresses one body. Its work is linear in the bytes of its input and output."""

    bytes_in: int = 0
    _members: int = 0
    _inflate: Any = field(factory=lambda: zlib.decompressobj(_GZIP))

    def decompress(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed bytes in parts of at most 256 KiB; some may be empty.

        Raises InvalidRequestError if `data` is not gzip.
        """
        for start in range(0, len(data), _MAX_INPUT):
            remaining = data[start : start + _MAX_INPUT]
            self.bytes_in += len(remaining)
            while remaining:
                remaining, decompressed = self._step(remaining)
                yield decompressed

    def end(self) -> None:
        """Raise InvalidRequestError unless the last member is complete."""
        if not self._inflate.eof:
            raise _invalid("it ends too early")

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the remaining bytes of `data`, and one part of the output."""
        if self._inflate.eof:
            self._members += 1
            if self._members == _MAX_MEMBERS:
                raise _invalid(f"it has more than {_MAX_MEMBERS} members")
            self._inflate = zlib.decompressobj(_GZIP)
        try:
            decompressed = self._inflate.decompress(data, _MAX_OUTPUT)
        except zlib.error as error:
            raise _invalid("its data is corrupt") from error
        return self._inflate.unused_data or self._inflate.unconsumed_tail, decompressed


def _invalid(reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the body is not valid gzip: {reason}; send it again, or uncompressed",
        details={"error_code": "request_body_encoding_invalid"},
    )
