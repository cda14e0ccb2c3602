"""Scan text for stop sequences: most backends do not report which sequence matched.

Such a backend gets no stop sequences (`emulate`): its `finish_reason` would be the same as at a
normal end. The proxy always requests a stream from it and cancels the call at the match, so the
model does not run on. A backend that reports the match (`map`) gets at most the number it accepts.

    state    input                              output                    next state
    ------   --------------------------------   -----------------------   ------------------------
    looking  contains no complete sequence      all but a possible        looking; the beginning
                                                beginning of one at end   is buffered
    looking  contains a complete sequence       the text before it        matched
    matched  anything                           nothing                   matched

If several match, the one that ends first counts, as when a backend stops a model token by token. Of
several that end at the same place, the longest counts. So the result does not depend on how the
text is split into chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define

from stages.chat_completions.json_values import as_string


def reported_stop_sequence(choice: dict[str, Any], sequences: Sequence[str]) -> str | None:
    """The one of `sequences` that the backend reports; None for a stop token of its own."""
    reported = as_string(choice.get("stop_reason")) or as_string(
        choice.get("matched_stop")
    )  # of SGLang
    return reported if reported in sequences else None


@define
class StopScanner:
    """Scan the text of one response for `sequences`. `matched` is the first match."""

    sequences: tuple[str, ...]
    matched: str | None = None
    _buffered: str = ""

    def feed(self, text: str) -> str:
        """Take more text; return the text that can be forwarded now."""
        if not self.sequences:
            return text
        if self.matched is not None:
            return ""
        text = self._buffered + text
        starts = [(text.find(sequence), sequence) for sequence in self.sequences]
        ends = [(start + len(match), start, match) for start, match in starts if start >= 0]
        if ends:
            _, start, self.matched = min(ends)
            self._buffered = ""
            return text[:start]
        sendable, self._buffered = split_partial_match(text, self.sequences)
        return sendable

    def finish(self) -> str:
        """Return the buffered text, at the end of the text."""
        buffered, self._buffered = self._buffered, ""
        return buffered


def split_partial_match(text: str, wanted: Sequence[str]) -> tuple[str, str]:
    """Split off the end of `text` if it may be the beginning of one of `wanted`."""
    longest = max(map(len, wanted), default=0)
    first_characters = {sequence[0] for sequence in wanted}
    for start in range(max(0, len(text) - longest + 1), len(text)):
        if text[start] in first_characters and any(w.startswith(text[start:]) for w in wanted):
            return text[:start], text[start:]
    return text, ""
