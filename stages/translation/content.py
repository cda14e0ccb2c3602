"""Content blocks as the parts of a Chat Completions user message, and as text."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

from stages.backends.profile import Profile
from stages.translation.notes import Notes
from stages.wire import messages as m
from stages.wire.errors import InvalidRequestError
from stages.wire.json import encode


def content(
    blocks: Iterable[m.Block], profile: Profile, notes: Notes
) -> str | list[dict[str, Any]]:
    """Blocks of a user turn: one string when all is text, because templates treat lists worse.

    Raises InvalidRequestError for what the backend cannot take.
    """
    parts: list[dict[str, Any]] = []
    for block in blocks:
        for each in unpacked(block):
            if isinstance(each, m.ImageBlock):
                parts.append(_image(each, profile))
            elif (text := rendered(each)) is not None:
                parts.append({"type": "text", "text": text})
            elif isinstance(each, m.OtherBlock):
                notes.add(f"{each.type}:dropped")
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def unpacked(block: m.Block) -> Iterable[m.Block]:
    """A document made of blocks is its header and these blocks."""
    if isinstance(block, m.DocumentBlock) and isinstance(block.source, m.ContentSource):
        header = _header(block)
        return (*([m.TextBlock(header)] if header else ()), *block.source.content)
    return (block,)


def rendered(block: m.Block) -> str | None:
    """A block as text; None when it has none. Raises InvalidRequestError for a file."""
    if isinstance(block, m.TextBlock):
        return block.text
    if isinstance(block, m.SearchResultBlock):
        body = "\n".join(filter(None, map(rendered, block.content)))
        return f"{block.title}\n{block.source}\n\n{body}"
    if isinstance(block, m.DocumentBlock):
        return _document(block)
    if isinstance(block, m.OtherBlock) and block.type == "tool_reference":
        return f"Tool {block.fields.get('tool_name')} is now available."
    return None


def result_text(result: m.ToolResultBlock) -> str:
    """A tool result as the text of a `tool` message, which holds nothing else.

    Images go into the user message that follows; markers stand in their place.
    """
    texts, images = [], 0
    for block in chain.from_iterable(map(unpacked, result.content)):
        if isinstance(block, m.ImageBlock):
            images += 1
            texts.append(f"[image {images} attached below]")
        elif (text := rendered(block)) is not None:
            texts.append(text)
        elif isinstance(block, m.OtherBlock):
            texts.append(encode(block.fields).decode())
    text = "\n".join(texts)
    return f"Error: {text}" if result.is_error and not text.startswith("Error:") else text


def _document(block: m.DocumentBlock) -> str:
    source = block.source
    if isinstance(source, m.TextSource):
        body = source.data
    elif isinstance(source, m.ContentSource):
        body = "\n".join(filter(None, map(rendered, source.content)))
    else:
        raise InvalidRequestError(
            "this backend takes no files: send the document as text "
            '(`"source": {"type": "text", …}`)'
        )
    return "\n\n".join(filter(None, (_header(block), body)))


def _header(block: m.DocumentBlock) -> str:
    return "\n".join(filter(None, (block.title, block.context)))


def _image(block: m.ImageBlock, profile: Profile) -> dict[str, Any]:
    source = block.source
    if profile.image_input == "none":
        raise InvalidRequestError("this model takes no images; choose one with vision")
    if isinstance(source, m.FileSource):
        raise InvalidRequestError("there is no Files API here: send the image as base64 or URL")
    if isinstance(source, m.Base64Source):
        url = f"data:{source.media_type};base64,{source.data}"
    elif profile.image_input == "data":
        raise InvalidRequestError("this backend fetches no URLs: send the image as base64")
    else:
        url = source.url
    return {"type": "image_url", "image_url": {"url": url}}
