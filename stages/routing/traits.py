"""What a request is like, for routing: pure, and about the request as the client made it."""

from __future__ import annotations

import hashlib

from stages.chat_completions.usage import BYTES_PER_TOKEN, TOKENS_PER_ATTACHMENT
from stages.messages_api import request as m
from stages.wire.json_codec import encode


def input_tokens(request: m.MessagesRequest) -> int:
    """About how many tokens the prompt has, before anything is known of the backend."""
    size = attached = 0
    for block in request.walk():
        if isinstance(block, m.ImageBlock):
            attached += 1
        else:
            size += _bytes(block)
    size += sum(len(encode((t.name, t.description, t.input_schema))) for t in request.tools)
    return size // BYTES_PER_TOKEN + attached * TOKENS_PER_ATTACHMENT


def has_images(request: m.MessagesRequest) -> bool:
    """Whether there is an image anywhere, also in a tool's result or a document."""
    return any(isinstance(block, m.ImageBlock) for block in request.walk())


def wants_thinking(request: m.MessagesRequest) -> bool:
    """Whether the client wants the model to think."""
    return request.thinking is not None and request.thinking.blocks_allowed


def prefix_key(request: m.MessagesRequest) -> bytes:
    """A digest of what stays the same while a conversation grows, and differs between most.

    It is of the system prompt (without the line of Claude Code that changes), the names of the
    tools, and the text of the first user turn.
    """
    digest = hashlib.blake2b(digest_size=16)
    first = next((each.content for each in request.messages if each.role == "user"), ())
    texts = [block.text for block in (*request.system, *first) if isinstance(block, m.TextBlock)]
    for text in (*(each.name for each in request.tools), *texts):
        if text.startswith(m.ATTRIBUTION):
            text = text.partition("\n")[2]
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.digest()


def _bytes(block: m.Block) -> int:
    """Those of the block's own text; blocks inside it count for themselves."""
    if isinstance(block, m.TextBlock):
        return len(block.text.encode("utf-8", "surrogatepass"))
    if isinstance(block, m.ToolUseBlock):
        return len(encode(block.input))
    if isinstance(block, m.ThinkingBlock):
        return len(block.thinking)
    if isinstance(block, m.DocumentBlock) and isinstance(block.source, m.TextSource):
        return len(block.source.data)
    return 0
