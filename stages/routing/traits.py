"""Traits of a request for routing: pure functions of the request as the client sent it."""

from __future__ import annotations

import hashlib

from stages.chat_completions.usage import BYTES_PER_TOKEN, TOKENS_PER_ATTACHMENT
from stages.messages_api import blocks as b
from stages.messages_api.request import ATTRIBUTION, MessagesRequest
from stages.wire.json_codec import encode


def input_tokens(request: MessagesRequest) -> int:
    """Estimate the tokens of the prompt, without a backend's own numbers."""
    size = attachments = 0
    for block in request.walk():
        if _is_attachment(block):
            attachments += 1
        else:
            size += _bytes(block)
    size += sum(
        len(encode((tool.name, tool.description, tool.input_schema))) for tool in request.tools
    )
    return size // BYTES_PER_TOKEN + attachments * TOKENS_PER_ATTACHMENT


def has_images(request: MessagesRequest) -> bool:
    """Whether there is an image anywhere, also in a tool's result or a document."""
    return any(isinstance(block, b.ImageBlock) for block in request.walk())


def wants_thinking(request: MessagesRequest) -> bool:
    """Whether the client wants the model to think."""
    return request.wants_thinking


def prefix_key(request: MessagesRequest) -> bytes:
    """A digest that stays the same while a conversation grows, and differs between most.

    It covers the system prompt (without Claude Code's attribution line, which changes), the names
    of the tools, and the text of the first user turn.
    """
    digest = hashlib.blake2b(digest_size=16)
    contents = (message.content for message in request.messages if message.role == "user")
    blocks = (*request.system, *next(contents, ()))
    texts = [block.text for block in blocks if isinstance(block, b.TextBlock)]
    for text in (*(tool.name for tool in request.tools), *texts):
        if text.startswith(ATTRIBUTION):
            text = text.partition("\n")[2]
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()


def _is_attachment(block: b.Block) -> bool:
    """Whether a block is an image, or a document whose text is not in the request."""
    if isinstance(block, b.DocumentBlock):
        return not isinstance(block.source, (b.TextSource, b.ContentSource))
    return isinstance(block, b.ImageBlock)


def _bytes(block: b.Block) -> int:
    """The size of the block's own text, without the blocks inside it."""
    if isinstance(block, b.TextBlock):
        return len(block.text.encode("utf-8", "surrogatepass"))
    if isinstance(block, b.ToolUseBlock):
        return len(encode(block.input))
    if isinstance(block, b.ThinkingBlock):
        return len(block.thinking)
    if isinstance(block, b.DocumentBlock) and isinstance(block.source, b.TextSource):
        return len(block.source.data)
    return 0
