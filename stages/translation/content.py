"""Renders content blocks as parts of a Chat Completions user message, and as text."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, TypeGuard

from stages.chat_completions import json_values
from stages.messages_api import request as m
from stages.messages_api.errors import UnsupportedError
from stages.translation.field_policies import FieldPolicies
from stages.wire import json_codec

_NO_VISION = "[an image that this model cannot see]"


def content(blocks: Iterable[m.Block], fields: FieldPolicies) -> str | list[dict[str, Any]]:
    """Render the blocks of a user turn. Raises UnsupportedError.

    If all blocks are text, return one string: some chat templates mishandle lists.
    """
    parts: list[dict[str, Any]] = []
    for block in blocks:
        for inner in expand_content(block, fields):
            if isinstance(inner, m.ImageBlock):
                parts.append(_image(inner, fields))
            elif (
                _is_pdf(inner) and fields.policy("document.pdf") == "map" and _keeps(inner, fields)
            ):
                parts.append(_file(inner))
            elif text := render_text(inner, fields):  # some backends refuse an empty text
                parts.append({"type": "text", "text": text})
    # They also refuse white space alone. Drop it unless there is nothing else.
    parts = [part for part in parts if part["type"] != "text" or part["text"].strip()] or parts
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def expand_content(block: m.Block, fields: FieldPolicies) -> Iterable[m.Block]:
    """Return the header and inner blocks of a document of blocks; of other blocks, the block."""
    if not (isinstance(block, m.DocumentBlock) and block.children):
        return (block,)
    if not _keeps(block, fields):
        return ()
    header = _header(block)
    return (*([m.TextBlock(header)] if header else ()), *block.children)


def render_text(block: m.Block, fields: FieldPolicies) -> str | None:
    """Render a block as text; None if it has no text. Raises UnsupportedError for a file."""
    if isinstance(block, m.TextBlock):
        return block.text
    if isinstance(block, m.SearchResultBlock):
        if not fields.allows("search_result"):
            return None
        _report_citations(block, fields)
        return f"{block.title}\n{block.source}\n\n{_joined(block.content, fields)}"
    if isinstance(block, m.DocumentBlock):
        return _document(block, fields)
    return _other(block, fields) if isinstance(block, m.OtherBlock) else None


def _other(block: m.OtherBlock, fields: FieldPolicies) -> str | None:
    if name := _named_tool(block):
        change = "no longer" if block.type == "tool_removal" else "now"
        return f"Tool {name} is {change} available." if fields.allows("tool_reference") else None
    if block.type == "browser_state":
        return json_codec.encode(block.fields).decode() if fields.allows(block.type) else None
    has_policy = block.type in ("redacted_thinking", "container_upload")
    has_policy |= block.type == "compaction" and fields.policy("compaction") != "emulate"
    policy = block.type if has_policy else "unknown_block"
    is_server_tool = "server_tool" in block.type or block.type.endswith("_tool_result")
    fields.allows("server_tool_blocks" if is_server_tool else policy, block.type)
    return None


def _named_tool(block: m.OtherBlock) -> str:
    """Return the tool that a block adds or removes. The backend gets all tools from the start."""
    if block.type == "tool_reference":
        return json_values.as_string(block.fields.get("tool_name"))
    tool = json_values.as_object(block.fields.get("tool")) if block.type in _TOOL_CHANGES else {}
    return json_values.as_string(tool.get("name")) if tool.get("type") == "tool_reference" else ""


_TOOL_CHANGES = ("tool_addition", "tool_removal")


def _joined(blocks: Iterable[m.Block], fields: FieldPolicies) -> str:
    return "\n".join(filter(None, (render_text(block, fields) for block in blocks)))


def result_text(result: m.ToolResultBlock, fields: FieldPolicies) -> str:
    """Render a tool result as the text of a `tool` message, which can hold nothing else.

    Images go into the next user message, and are replaced by markers.
    """
    if len(result.content) == 1 and type(block := result.content[0]) is m.TextBlock:
        return _mark_error(block.text, result, fields)
    texts, images = [], 0
    attached = fields.policy("tool_result.image") == "emulate"
    for block in chain.from_iterable(expand_content(inner, fields) for inner in result.content):
        if isinstance(block, m.ImageBlock):
            images += 1
            texts.append(f"[image {images} attached below]" if attached else _NO_VISION)
        elif (text := render_text(block, fields)) is not None:
            texts.append(text)
    return _mark_error("\n".join(texts), result, fields)


def _mark_error(text: str, result: m.ToolResultBlock, fields: FieldPolicies) -> str:
    failed = result.is_error and fields.allows("tool_result.is_error")
    return f"Error: {text}" if failed and not text.startswith("Error:") else text


def _document(block: m.DocumentBlock, fields: FieldPolicies) -> str | None:
    if not _keeps(block, fields):
        return None
    source = block.source
    if isinstance(source, m.TextSource):
        body = source.data
    elif isinstance(source, m.ContentSource):
        body = _joined(source.content, fields)
    else:
        body = _pdf_text(source.data, fields) if isinstance(source, m.Base64Source) else ""
    return "\n\n".join(filter(None, (_header(block), body)))


def _pdf_text(data: str, fields: FieldPolicies) -> str:
    text = fields.pdfs.setdefault(data, None)
    if text == "":  # without an error the model would invent the contents
        raise UnsupportedError(
            "document: this PDF has no text (scanned pages?), and this backend takes no files"
        )
    return "(not read yet)" if text is None else text


def _keeps(block: m.DocumentBlock, fields: FieldPolicies) -> bool:
    _report_citations(block, fields)
    return fields.allows(f"document.{_KINDS[type(block.source)]}")


def _report_citations(block: m.DocumentBlock | m.SearchResultBlock, fields: FieldPolicies) -> None:
    if (block.citations or {}).get("enabled"):
        fields.allows("document.citations")


_KINDS = {
    m.TextSource: "text",
    m.ContentSource: "content",
    m.Base64Source: "pdf",
    m.UrlSource: "url",
    m.FileSource: "file",
}


def _is_pdf(block: m.Block) -> TypeGuard[m.DocumentBlock]:
    return isinstance(block, m.DocumentBlock) and isinstance(block.source, m.Base64Source)


def _file(block: m.DocumentBlock) -> dict[str, Any]:
    data = block.source.data if isinstance(block.source, m.Base64Source) else ""
    name = block.title or "document.pdf"
    file = {"filename": name, "file_data": f"data:application/pdf;base64,{data}"}
    return {"type": "file", "file": file}


def _header(block: m.DocumentBlock) -> str:
    return "\n".join(filter(None, (block.title, block.context)))


def _image(block: m.ImageBlock, fields: FieldPolicies) -> dict[str, Any]:
    source = block.source
    kind = {m.Base64Source: "base64", m.UrlSource: "url", m.FileSource: "file"}[type(source)]
    if fields.policy("image.base64") == "reject":  # no image would do: reject it as such
        kind = "base64"
    if not fields.allows(f"image.{kind}") or isinstance(source, m.FileSource):
        return {"type": "text", "text": _NO_VISION}
    if isinstance(source, m.Base64Source):
        url = f"data:{source.media_type};base64,{source.data}"
    else:
        url = source.url
    return {"type": "image_url", "image_url": {"url": url}}
