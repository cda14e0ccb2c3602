r"""Server-sent events: the decoder for a backend's stream, the encoder for ours.

Lines end with `\n` or `\r\n` only. U+2028, U+2029 and U+0085 stand inside texts, so a line
splitter that knows Unicode would cut JSON in two.
"""

from __future__ import annotations

import codecs


class SseDecoder:
    """Bytes, split anywhere, to the `data` of each event. One decoder serves one stream."""

    def __init__(self, max_event_bytes: int = 16 * 1024 * 1024) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._begun = False
        self._limit = max_event_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes.

        Raises ValueError when an event gets larger than the limit. Comments and fields other
        than `data` carry nothing here.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines and not self._begun:  # a byte order mark may begin the stream
            self._begun = True
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        if len(self._rest) + sum(map(len, self._data)) + len(self._data) > self._limit:
            raise ValueError(f"an event of more than {self._limit} bytes")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if not line:
                events += self._complete()
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
        if self._data:  # what is fed next would count all the lines again
            self._data = [b"\n".join(self._data)]
        return events

    def finish(self) -> list[bytes]:
        """What stands at the end of the stream without its empty line."""
        return self.feed(b"\n\n") if self._rest or self._data else []

    def _complete(self) -> list[bytes]:
        if not self._data:
            return []
        event = b"\n".join(self._data)
        self._data.clear()
        return [event]


def encode_event(name: str, data: bytes) -> bytes:
    """One event, named as its JSON's `type`."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
