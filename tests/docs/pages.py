"""The Markdown files of the project: their text, blocks of code, links and anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@frozen
class Block:
    """A fenced block. `kind` is its first line, as `yaml fragment`; `line` counts from 1."""

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@frozen
class Page:
    """A Markdown file, by its path in the repository."""

    path: str

    @property
    def text(self) -> str:
        return (ROOT / self.path).read_text()

    @property
    def prose(self) -> str:
        """The text without its blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, *kinds: str) -> Iterator[Block]:
        """The blocks of these kinds; without kinds, all."""
        text = self.text
        for match in _FENCE.finditer(text):
            if not kinds or match[1] in kinds:
                line = text.count("\n", 0, match.start()) + 1
                yield Block(self.path, line, match[1], match[2])

    def modules(self) -> dict[str, str]:
        """The blocks of Python that are files, by their names."""
        named = [block for block in self.blocks() if block.kind.startswith("python ")]
        return {block.kind.removeprefix("python "): block.text for block in named}

    def links(self) -> Iterator[str]:
        """The targets of links and images."""
        yield from re.findall(r"\]\(([^)\s]+)\)", self.prose)

    def anchors(self) -> set[str]:
        """The anchors that GitHub makes of the headings."""
        headings = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
        return {word.replace(" ", "-") for word in words}


PAGES = [
    Page(str(file.relative_to(ROOT)))
    for file in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
]


def blocks(*kinds: str) -> list[Block]:
    return [block for page in PAGES for block in page.blocks(*kinds)]
