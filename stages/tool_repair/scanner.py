"""Tool calls in the text of one answer, found while it arrives. For the formats see formats.py.

    state    text                                       comes out           then
    ------   ----------------------------------------   -----------------   -------------------
    looking  no marker is in it                         all but what may    looking; that is
                                                        begin one, at its   held
                                                        end
    looking  what stands only within a call             all up to there     given up
    looking  a marker, not in code                      what is before it   marked
    marked   not all of a head yet (white space does    nothing             marked
             not count)
    marked   no head of the format                      the marker          looking, at what is
                                                                            behind it
    marked   a head, and all up to the format's end     the calls; all of   looking
                                                        it, if they are
                                                        of no tool, or it
                                                        is JSON, but no
                                                        call
    marked   what cannot be read, or is not ended       all of it           given up
             where the text is cut, or more than is
             held at most
    marked   (the text ends)                            as at the end       looking
    given    anything                                   all of it           given up
    up

An answer begins as marked, with the format that has no marker. The end of a format does not count
within a string of JSON. Where a call cannot be read, it is not clear where it ends, and what looks
like the next one may be an example in the file that it was to write: so that is given up. What is
found does not depend on how the text is cut, and each character is looked at a few times at most.
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
#: Characters that are looked at together: at each marker, what is left of them is copied.
_SLICE = 4_000


@frozen
class FoundCalls:
    """Calls of tools that there are, the text they were written in, and what is behind them."""

    calls: tuple[FoundCall, ...]
    text: str
    text_after: str


@define
class _Candidate:
    """What came behind a marker."""

    format: Format
    prefix: str | None = ""
    """All of it without white space; None once one of the heads is there."""
    size: int = 0
    _parts: list[str] = Factory(list)
    _tail: str = ""
    _nesting: JsonNesting = Factory(JsonNesting)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self._parts)

    def begins(self, text: str) -> bool:
        """Take more in. Whether a head of the format can come of it, or has."""
        self._add(text)
        self.prefix = (self.prefix or "") + _SPACE.sub("", text)
        if any(map(self.prefix.startswith, self.format.prefixes)):
            self.prefix = None
            return True
        return any(each.startswith(self.prefix) for each in self.format.prefixes)

    def restart(self) -> str:
        """Give all of it, to be taken in anew."""
        text, self.size = self.text, 0
        self._parts.clear()
        return text

    def ends(self, text: str) -> str | None:
        """Take more in, up to the end; give what is behind that. None: it has not ended."""
        end = self.format.end
        while end and (at := (self._tail + text).find(end)) >= 0:
            behind = at + len(end) - len(self._tail)
            self._add(text[:behind])
            self._tail, text = "", text[behind:]
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
    """Finds the calls of `tools`, which are names."""

    tools: Collection[str]
    repairs: JsonRepair = Factory(JsonRepair)
    _formats: dict[str, Format] = field(init=False)
    _markers: tuple[str, ...] = field(init=False)
    """What to look for; nothing, once that was given up."""
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
        """Whether that is just more text, so that it need not be fed: nine times in ten."""
        if self._candidate or self._buffered or not self._first_characters.isdisjoint(text):
            return False
        self._code.feed(text)
        return True

    def feed(self, text: str) -> Iterator[str | FoundCalls]:
        """What is clear now."""
        for start in range(0, len(text), _SLICE):
            piece = text[start : start + _SLICE]
            while piece:
                marked = self._candidate
                piece = yield from self._collect(marked, piece) if marked else self._look(piece)

    def finish(self, whole: bool) -> Iterator[str | FoundCalls]:
        """What was held back, when nothing of this text follows.

        Where that is not the end of a `whole` answer, what has not ended is no call.
        """
        marked = self._candidate
        if marked and marked.prefix == "" and not marked.format.marker:  # nothing was said so far
            yield from self._show(marked.restart())
            return
        self._candidate = None
        if marked and marked.prefix is None and whole:
            yield from self._read(marked.format, marked.text)
        elif marked:
            if marked.prefix is None:
                self.give_up()
            yield from self._show(marked.format.marker + marked.text)
        held, self._buffered = self._buffered, ""
        yield from self._show(held)

    def give_up(self) -> None:
        """Take all that follows for text."""
        self._markers, self._first_characters = (), frozenset()

    def text_is_not_first(self) -> None:
        """Say that there is more to the answer than its text."""
        if self._candidate and not self._candidate.format.marker:
            self._candidate = None

    def _look(self, text: str) -> Generator[str | FoundCalls, None, str]:
        """Show text up to a marker, and give what is behind it."""
        text, self._buffered = self._buffered + text, ""
        found = self._pattern.search(text) if self._markers else None
        if not found:
            text, self._buffered = split_partial_match(text, self._markers)
            yield from self._show(text)
            return ""
        marker = found[0]
        yield from self._show(text[: found.start()])
        if self._code.is_open:
            yield from self._show(marker)
        elif marker in INNER_MARKERS:
            self.give_up()
            yield from self._show(marker)
        else:
            self._candidate = _Candidate(self._formats[marker])
        return text[found.end() :]

    def _collect(self, marked: _Candidate, text: str) -> Generator[str | FoundCalls, None, str]:
        """Take in what is behind a marker, and give what is behind that."""
        if marked.prefix is not None:
            if not marked.begins(text):
                self._candidate = None
                yield from self._show(marked.format.marker)
                return marked.text
            text = marked.restart() if marked.prefix is None else ""
        behind = marked.ends(text) if marked.prefix is None else None
        if marked.size > _MAX_BUFFERED:
            self._candidate = None
            self.give_up()
            yield from self._show(marked.format.marker + marked.text)
        elif behind is not None:
            self._candidate = None
            yield from self._read(marked.format, marked.text)
        return behind or ""

    def _read(self, format: Format, text: str) -> Iterator[str | FoundCalls]:
        """The calls in a text that is whole."""
        body = text.removesuffix(format.end)
        read = format.parse(body)
        if read and all(call.name in self.tools for call in read[0]):
            self._code.feed(read[1])
            yield FoundCalls(tuple(read[0]), format.marker + text, read[1])
            return
        if not read and not is_json(body):
            self.give_up()
        yield from self._show(format.marker + text)

    def _show(self, text: str) -> Iterator[str]:
        if text:
            self._code.feed(text)
            yield text
