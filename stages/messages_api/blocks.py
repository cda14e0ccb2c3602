"""The content blocks of requests as attrs classes, and `walk`, which visits them.

Each class has its `type` on the wire and its `children`: the blocks inside it. A class that can
contain blocks overrides `children`. `children_path` is where they are in the JSON of the block.
Only members that the proxy reads are fields; see `stages.messages_api.unknown_fields`.
Source: the Messages API reference, versions 2023-06-01 and 2026-10-21.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from attrs import frozen


class _Node:
    """A block or a source. This one contains no blocks."""

    __slots__ = ()
    children: ClassVar[Any] = ()
    children_path: ClassVar[str] = "content"


@frozen
class Base64Source(_Node):
    """Bytes in the request. `data` is standard base64 without line breaks."""

    media_type: str
    data: str


@frozen
class UrlSource(_Node):
    """A URL that the backend fetches."""

    url: str


@frozen
class FileSource(_Node):
    """A file of the Files API."""

    file_id: str


@frozen
class TextSource(_Node):
    """A plain-text document."""

    data: str


@frozen
class ContentSource(_Node):
    """A document made of blocks."""

    content: Content

    @property
    def children(self) -> Content:
        return self.content


@frozen
class TextBlock(_Node):
    """Text."""

    type: ClassVar[str] = "text"
    text: str


@frozen
class ImageBlock(_Node):
    """An image: jpeg, png, gif or webp."""

    type: ClassVar[str] = "image"
    source: ImageSource


@frozen
class DocumentBlock(_Node):
    """A document: PDF bytes, a URL, plain text, or blocks."""

    type: ClassVar[str] = "document"
    children_path: ClassVar[str] = "source.content"
    source: DocumentSource
    title: str | None = None
    context: str | None = None
    citations: dict[str, Any] | None = None

    @property
    def children(self) -> Content:
        return self.source.children


@frozen
class SearchResultBlock(_Node):
    """A search result that the client supplies."""

    type: ClassVar[str] = "search_result"
    source: str
    title: str
    content: Content
    citations: dict[str, Any] | None = None

    @property
    def children(self) -> Content:
        return self.content


@frozen
class ThinkingBlock(_Node):
    """Reasoning of an earlier response."""

    type: ClassVar[str] = "thinking"
    thinking: str
    signature: str = ""


@frozen
class ToolUseBlock(_Node):
    """A tool call of the model."""

    type: ClassVar[str] = "tool_use"
    id: str
    name: str
    input: dict[str, Any]
    toolset_name: str | None = None


@frozen
class ToolResultBlock(_Node):
    """The result of a tool call."""

    type: ClassVar[str] = "tool_result"
    tool_use_id: str
    content: Content = ()
    is_error: bool = False

    @property
    def children(self) -> Content:
        return self.content


@frozen
class MidConvSystemBlock(_Node):
    """A system message inside another message, as SDKs 0.105 to 0.121 send it."""

    type: ClassVar[str] = "mid_conv_system"
    content: Content

    @property
    def children(self) -> Content:
        return self.content


@frozen
class OtherBlock(_Node):
    """A block of a type that has no class here. `fields` is its whole JSON."""

    type: str
    fields: dict[str, Any]


ImageSource = Base64Source | UrlSource | FileSource
DocumentSource = Base64Source | UrlSource | FileSource | TextSource | ContentSource
Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | SearchResultBlock
    | ThinkingBlock
    | ToolUseBlock
    | ToolResultBlock
    | MidConvSystemBlock
    | OtherBlock
)
#: The classes by the `type` on the wire.
BLOCKS: dict[str, type] = {
    cls.type: cls
    for cls in (
        TextBlock,
        ImageBlock,
        DocumentBlock,
        SearchResultBlock,
        ThinkingBlock,
        ToolUseBlock,
        ToolResultBlock,
        MidConvSystemBlock,
    )
}
IMAGE_SOURCES: dict[str, type] = {
    "base64": Base64Source,
    "url": UrlSource,
    "file": FileSource,
}
DOCUMENT_SOURCES = {**IMAGE_SOURCES, "text": TextSource, "content": ContentSource}
#: Blocks; on the wire also a string, which is one text block (no block if the string is empty).
Content = tuple[Block, ...]


def walk(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield each block, and after it the blocks inside it."""
    for block in blocks:
        yield block
        if children := block.children:
            yield from walk(children)


def walk_paths(
    blocks: Iterable[Block], path: str, parent: Block | None = None
) -> Iterator[tuple[str, Block, Block | None]]:
    """As `walk`, with the path of each block and the block that it is in.

    `path` is that of the list, as `messages.0.content`.
    """
    for n, block in enumerate(blocks):
        place = f"{path}.{n}"
        yield place, block, parent
        if children := block.children:
            yield from walk_paths(children, f"{place}.{block.children_path}", block)
