r"""Server-sent events: the decoder for a backend's stream, the encoder for ours.

Lines end with `\n` or `\r\n` only. Texts may contain U+2028, U+2029 and U+0085: a line splitter
for Unicode would cut JSON in two.
"""

from __future__ import annotations

import codecs
import json


class SseDecoder:
    """Decodes one stream, in pieces of any size, to the `data` of each event.

    An event with the name `error`, or with a field `error` (llama.cpp before 2025), becomes the
    JSON `{"error": …}`, whatever its data is.
    """

    def __init__(self, max_event_bytes: int = 16 * 1024 * 1024) -> None:
        self._line: list[bytes] = []
        """The pieces of the line that has not ended yet."""
        self._line_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._failed = False
        self._started = False
        self._limit = max_event_bytes

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that `data` completes.

        Raises ValueError if more bytes than the limit wait for the end of an event, or if the body
        is HTML. Comments and fields other than `data` are ignored. A first line of JSON is data.
        """
        if self._is_one_event(data):
            return [data[6:-2]]
        *lines, tail = data.split(b"\n")
        if lines and self._line:
            lines[0] = b"".join([*self._line, lines[0]])
            self._line.clear()
            self._line_size = 0
        if lines and not self._started:
            lines = self._begin(lines)
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
        if tail:
            self._line.append(tail)
            self._line_size += len(tail)
        if self._data_size + self._line_size > self._limit:
            raise ValueError(f"an event of more than {self._limit} bytes")
        return events

    def _begin(self, lines: list[bytes]) -> list[bytes]:
        """Check the first lines, up to one that is not blank, and return them for `feed`.

        They may begin with a byte order mark. Raises ValueError at HTML, as a wrong address sends.
        """
        begin = b"\n".join(lines).removeprefix(codecs.BOM_UTF8).lstrip()
        self._started = bool(begin)
        if begin.startswith(b"<"):
            raise ValueError("a page of HTML as its stream: check its `base_url`")
        if begin.startswith((b"{", b"[")):
            begin = b"data:" + begin
        return begin.split(b"\n")

    def _is_one_event(self, data: bytes) -> bool:
        """Whether `data` is one whole event with one line, as most packets are."""
        return (
            data.startswith(b"data: ")
            and data.endswith(b"\n\n")
            and data.find(b"\n") == len(data) - 2
            and not data.endswith(b"\r\n\n")
            and self._started
            and not (self._line or self._data or self._failed)
        )

    def finish(self) -> list[bytes]:
        """The data of the last event, if the stream ends without an empty line."""
        return self.feed(b"\n\n") if self._line or self._data else []

    def _read_name(self, line: bytes) -> None:
        """Detect an error, by the name of the event or by the field `error`."""
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
    """The data of an error event as a chunk with the member `error`."""
    if event.lstrip()[:1] not in (b"{", b"["):
        event = json.dumps(event.decode("utf-8", "replace")).encode()
    return b'{"error":%b}' % event


def encode_event(name: str, data: bytes) -> bytes:
    """Encode one event. `name` is the `type` of its JSON."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)
