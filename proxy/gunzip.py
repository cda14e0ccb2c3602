"""Bodies in gzip, unpacked as they arrive."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from attrs import define, field

from stages.messages_api.errors import InvalidRequestError

_GZIP = 16 + zlib.MAX_WBITS
#: Bytes that go in at a time, which are copied again for each member; and that come out.
_IN, _OUT = 16 * 1024, 256 * 1024
#: A body may be several gzip files, one after another. Empty ones would cost time for nothing.
_MAX_MEMBERS = 1000


@define
class Gunzip:
    """Unpacks one body. Its work is linear in the bytes that go in and those that come out."""

    taken: int = 0
    """Bytes that went in."""
    _members: int = 0
    _inflate: Any = field(factory=lambda: zlib.decompressobj(_GZIP))

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """The bytes in `data`, in pieces of at most 256 KiB, some of which may be empty.

        Raises InvalidRequestError where `data` is not gzip.
        """
        for start in range(0, len(data), _IN):
            rest = data[start : start + _IN]
            self.taken += len(rest)
            while rest:
                rest, piece = self._step(rest)
                yield piece

    def end(self) -> None:
        """Raise InvalidRequestError unless the last member is whole."""
        if not self._inflate.eof:
            raise _invalid("it ends too early")

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        """What of `data` is left, and one piece."""
        if self._inflate.eof:
            self._members += 1
            if self._members == _MAX_MEMBERS:
                raise _invalid(f"it has more than {_MAX_MEMBERS} members")
            self._inflate = zlib.decompressobj(_GZIP)
        try:
            piece = self._inflate.decompress(data, _OUT)
        except zlib.error as error:
            raise _invalid("its data is corrupt") from error
        return self._inflate.unused_data or self._inflate.unconsumed_tail, piece


def _invalid(why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"the body is not valid gzip: {why}; send it again, or uncompressed",
        details={"error_code": "request_body_encoding_invalid"},
    )
