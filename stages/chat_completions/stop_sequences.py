"""Stop sequences found in the text here, because most backends do not tell which one they met.

To these they are not sent (`emulate`): their `finish_reason` would be the same as for an answer
that is whole. So that a model does not run on behind one, the backend is always asked for a
stream, and is left at the match. One that tells (`map`) is sent as many as it takes.

    state    what is fed                        what comes out            then
    ------   --------------------------------   -----------------------   ------------------------
    looking  no sequence is complete in it      all but what may begin    looking; that is held
                                                one, at its end
    looking  a sequence is complete in it       what stands before it     matched
    matched  anything                           nothing                   matched

Of several, that one counts which is complete first, as it is where a model is stopped token by
token; of those that end at the same place, the longest. So it does not matter how the text is
cut into chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import define

from stages.chat_completions.json_values import as_string
from stages.profiles.profile import Profile


def divide_stop_sequences(
    sequences: Sequence[str], profile: Profile
) -> tuple[list[str], tuple[str, ...]]:
    """Those to send to the backend, and those to look for here: all, when it cannot have all."""
    policy = profile.fields["stop_sequences"]
    if policy not in ("map", "emulate"):
        return [], ()
    sent = list(sequences[: profile.max_stop_sequences]) if policy == "map" else []
    return sent, tuple(sequences) if len(sent) < len(sequences) else ()


def reported_stop_sequence(choice: dict[str, Any], sequences: Sequence[str]) -> str | None:
    """The one of `sequences` that the backend says it met; it may also tell of ends of its own."""
    told = as_string(choice.get("stop_reason")) or as_string(
        choice.get("matched_stop")
    )  # of SGLang
    return told if told in sequences else None


@define
class StopScanner:
    """Looks for `sequences` in the text of one answer. `matched` is the one that was found."""

    sequences: tuple[str, ...]
    matched: str | None = None
    _buffered: str = ""

    def feed(self, text: str) -> str:
        """What of the text so far can be shown now."""
        if not self.sequences:
            return text
        if self.matched is not None:
            return ""
        text = self._buffered + text
        found = [(text.find(each), each) for each in self.sequences]
        ends = [(start + len(each), start, each) for start, each in found if start >= 0]
        if ends:
            _, start, self.matched = min(ends)
            self._buffered = ""
            return text[:start]
        shown, self._buffered = split_partial_match(text, self.sequences)
        return shown

    def finish(self) -> str:
        """What was held back, when the text does not go on."""
        held, self._buffered = self._buffered, ""
        return held


def split_partial_match(text: str, wanted: Sequence[str]) -> tuple[str, str]:
    """`text` without what may be the beginning of one of `wanted` at its end, and that."""
    longest = max(map(len, wanted), default=0)
    firsts = {each[0] for each in wanted}
    for start in range(max(0, len(text) - longest + 1), len(text)):
        if text[start] in firsts and any(each.startswith(text[start:]) for each in wanted):
            return text[:start], text[start:]
    return text, ""
