"""Find tool calls in the text of one response while it arrives. For the formats see formats.py.

    state       text                                     output             next state
    ---------   --------------------------------------   ----------------   ---------------------
    looking     contains no marker                       all but a          looking; that end is
                                                         possible marker    buffered
                                                         at its end
    looking     contains an inner marker                 all up to there    given up
    looking     contains a marker, not in code           the text before    candidate
                                                         it
    candidate   only a part of a prefix yet (white       none               candidate
                space is ignored)
    candidate   no prefix of the format                  the marker         looking, at the text
                                                                            after it
    candidate   a prefix, and all up to the format's     the calls; or all  looking
                end                                      of it, if they
                                                         are of unknown
                                                         tools, or it is
                                                         JSON but no call
    candidate   not readable, or cut at the end of the   all of it          given up
                text, or longer than the limit
    candidate   (the text ends)                          as at the end      looking
    given up    anything                                 all of it          given up

A response begins as a candidate of the format without a marker. The end of a format does not count
within a JSON string. The end of an unreadable call is unknown, and an apparent next call may be an
example in the file that the first one was to write: so the scanner gives up. The result does not
depend on how the text is split, and each character is read at most a few times.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterator

from attrs import Factory, define, field, frozen

from stages.chat_completions.json_nesting import JsonNesting
from stages.chat_completions.stop_sequences import split_partial_match
from stages.tool_repair.arguments import JsonRepair, is_json
from stages.tool_repair.formats import INNER_MARKERS, Format, FoundCall, formats
from stages.tool_repair.markdown_code import MarkdownCode

_SPACE = re.compile(r"\s+")
_JSON = re.compile(r"(?:[^\s<{]+>)?\s*{")
_MAX_BUFFERED = 200_000  # characters
#: Characters that are scanned together: at each marker, the rest of the slice is copied.
_SLICE = 4_000


@frozen
class FoundCalls:
    """Calls of known tools, the text of the calls, and the text after them."""

    calls: tuple[FoundCall, ...]
    text: str
    text_after: str


@define
class _Candidate:
    """The text after a marker, which may be calls."""

    format: Format
    prefix: str | None = ""
    """The text without white space; None after a whole prefix was read."""
    size: int = 0
    _parts: list[str] = Factory(list)
    _tail: str = ""
    _nesting: JsonNesting = Factory(JsonNesting)

    @property
    def text(self) -> str:
        """The whole text after the marker."""
        return "".join(self._parts)

    def begins(self, text: str) -> bool:
        """Take more text. Return whether it has, or may become, a prefix of the format."""
        self._add(text)
        self.prefix = (self.prefix or "") + _SPACE.sub("", text)
        if any(map(self.prefix.startswith, self.format.prefixes)):
            self.prefix = None
            return True
        return any(each.startswith(self.prefix) for each in self.format.prefixes)

    def restart(self) -> str:
        """Return the whole text, to be read again."""
        text, self.size = self.text, 0
        self._parts.clear()
        return text

    def ends(self, text: str) -> str | None:
        """Take more text, up to the end of the format. Return the text after it, or None."""
        end = self.format.end
        while end and (at := (self._tail + text).find(end)) >= 0:
            end_at = at + len(end) - len(self._tail)
            self._add(text[:end_at])
            self._tail, text = "", text[end_at:]
            if not self._in_string():
                return text
        self._add(text)
        self._tail = (self._tail + text)[-len(end) + 1 :] if end else ""
        return None

    def _in_string(self) -> bool:
        if not self._nesting.fed and not _JSON.match(self.text):
            return False
        for part in self._parts[self._nesting.fed :]:
            self._nesting.feed(part)
        return self._nesting.in_string

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self.size += len(text)


@define
class ToolCallScanner:
    """Finds the calls of the tools named in `tools`."""

    tools: Collection[str]
    repairs: JsonRepair = Factory(JsonRepair)
    _formats: dict[str, Format] = field(init=False)
    _markers: tuple[str, ...] = field(init=False)
    """The texts to scan for; empty after giving up."""
    _pattern: re.Pattern[str] = field(init=False)
    _first_characters: frozenset[str] = field(init=False)
    _candidate: _Candidate | None = field(init=False)
    _buffered: str = field(default="", init=False)
    _code: MarkdownCode = field(factory=MarkdownCode, init=False)

    def __attrs_post_init__(self) -> None:
        self._formats = {each.marker: each for each in formats(self.tools, self.repairs)}
        self._candidate = _Candidate(self._formats.pop(""))
        self._markers = (*self._formats, *INNER_MARKERS)
        self._pattern = re.compile("|".join(map(re.escape, self._markers)))
        self._first_characters = frozenset(sign[0] for sign in self._markers)

    def is_plain_text(self, text: str) -> bool:
        """Whether `text` cannot be part of a call, so that `feed` is not needed: nine in ten."""
        if self._candidate or self._buffered or not self._first_characters.isdisjoint(text):
            return False
        self._code.feed(text)
        return True

    def feed(self, text: str) -> Iterator[str | FoundCalls]:
        """Take more text; yield the decided text and calls."""
        for start in range(0, len(text), _SLICE):
            remaining = text[start : start + _SLICE]
            while remaining:
                candidate = self._candidate
                step = self._collect(candidate, remaining) if candidate else self._scan(remaining)
                remaining = yield from step

    def finish(self, whole: bool) -> Iterator[str | FoundCalls]:
        """Yield the buffered text, at the end of this text.

        An unfinished candidate is a call only at the end of a `whole` response.
        """
        candidate = self._candidate
        if candidate and candidate.prefix == "" and not candidate.format.marker:  # no text so far
            yield from self._emit(candidate.restart())
            return
        self._candidate = None
        if candidate and candidate.prefix is None and whole:
            yield from self._read(candidate.format, candidate.text)
        elif candidate:
            if candidate.prefix is None:
                self.give_up()
            yield from self._emit(candidate.format.marker + candidate.text)
        buffered, self._buffered = self._buffered, ""
        yield from self._emit(buffered)

    def give_up(self) -> None:
        """Treat all further text as plain text."""
        self._markers, self._first_characters = (), frozenset()

    def text_is_not_first(self) -> None:
        """Note that the response has more than text: a format without a marker is excluded."""
        if self._candidate and not self._candidate.format.marker:
            self._candidate = None

    def _scan(self, text: str) -> Generator[str | FoundCalls, None, str]:
        """Yield the text up to a marker, and return the text after it."""
        text, self._buffered = self._buffered + text, ""
        match = self._pattern.search(text) if self._markers else None
        if not match:
            text, self._buffered = split_partial_match(text, self._markers)
            yield from self._emit(text)
            return ""
        marker = match[0]
        yield from self._emit(text[: match.start()])
        if self._code.is_open:
            yield from self._emit(marker)
        elif marker in INNER_MARKERS:
            self.give_up()
            yield from self._emit(marker)
        else:
            self._candidate = _Candidate(self._formats[marker])
        return text[match.end() :]

    def _collect(self, candidate: _Candidate, text: str) -> Generator[str | FoundCalls, None, str]:
        """Add text to the candidate, and return the text after its end."""
        if candidate.prefix is not None:
            if not candidate.begins(text):
                self._candidate = None
                yield from self._emit(candidate.format.marker)
                return candidate.text
            text = candidate.restart() if candidate.prefix is None else ""
        text_after = candidate.ends(text) if candidate.prefix is None else None
        if candidate.size > _MAX_BUFFERED:
            self._candidate = None
            self.give_up()
            yield from self._emit(candidate.format.marker + candidate.text)
        elif text_after is not None:
            self._candidate = None
            yield from self._read(candidate.format, candidate.text)
        return text_after or ""

    def _read(self, format: Format, text: str) -> Iterator[str | FoundCalls]:
        """Yield the calls of a complete candidate, or its text."""
        body = text.removesuffix(format.end)
        parsed = format.parse(body)
        if parsed and all(call.name in self.tools for call in parsed[0]):
            self._code.feed(parsed[1])
            yield FoundCalls(tuple(parsed[0]), format.marker + text, parsed[1])
            return
        if not parsed and not is_json(body):
            self.give_up()
        yield from self._emit(format.marker + text)

    def _emit(self, text: str) -> Iterator[str]:
        if text:
            self._code.feed(text)
            yield text
