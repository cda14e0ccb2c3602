r"""Server-sent events: the decoder for a backend's stream, the encoder for ours.

Lines end with `\n` or `\r\n` only. U+2028, U+2029 and U+0085 stand inside texts, so a line
splitter that knows Unicode would cut JSON in two.
"""

from __future__ import annotations

import codecs
import json


class SseDecoder:
    """Bytes, split anywhere, to the `data` of each event. One decoder serves one stream.

    An event that is named `error`, or whose field is (llama.cpp before 2025), comes as the JSON
    `{"error": …}`, whatever its data is.
    """

    def __init__(self, max_event_bytes: int = 16 * 1024 * 1024) -> None:
        self._rest: list[bytes] = []
        """The pieces of a line that has not ended."""
        self._rest_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._failed = False
        self._begun = False
        self._limit = max_event_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes.

        Raises ValueError when an event gets larger than the limit. Comments and fields other
        than `data` carry nothing here.
        """
        *lines, rest = data.split(b"\n")
        if lines and self._rest:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest.clear()
            self._rest_size = 0
        if lines and not self._begun:  # a byte order mark may begin the stream
            self._begun = True
            lines[0] = lines[0].removeprefix(codecs.BOM_UTF8)
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if not line:
                events += self._complete()
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._data_size += len(line)
            elif line.startswith((b"error:", b"event:")):
                self._read_name(line)
        if rest:
            self._rest.append(rest)
            self._rest_size += len(rest)
        if self._data_size + self._rest_size > self._limit:
            raise ValueError(f"an event of more than {self._limit} bytes")
        return events

    def finish(self) -> list[bytes]:
        """What stands at the end of the stream without its empty line."""
        return self.feed(b"\n\n") if self._rest or self._data else []

    def _read_name(self, line: bytes) -> None:
        """Note that an event is an error, by its name or by a field that carries it."""
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"error":
            self._data.append(value)
            self._data_size += len(line)
        self._failed = self._failed or b"error" in (name, value)

    def _complete(self) -> list[bytes]:
        failed, self._failed = self._failed, False
        if not self._data:
            return []
        event = b"\n".join(self._data)
        self._data.clear()
        self._data_size = 0
        return [_as_error(event) if failed else event]


def _as_error(event: bytes) -> bytes:
    """The data of an error event, as a chunk that has the member `error`."""
    if event.lstrip()[:1] not in (b"{", b"["):
        event = json.dumps(event.decode("utf-8", "replace")).encode()
    return b'{"error":%b}' % event


def encode_event(name: str, data: bytes) -> bytes:
    """One event, named as its JSON's `type`."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
