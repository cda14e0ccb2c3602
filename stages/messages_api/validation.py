"""What the values of a Messages request may be, beyond their types.

The rules and their wording are those of the Messages API, because clients match on them.
Rules that the translation can repair (an interrupted tool, two turns of one role, an assistant
turn or text that is empty) are not checked: what can be answered is answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from stages.messages_api import request as m
from stages.messages_api.structuring import either, unknown_tag

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
#: They may have to be looked for in the text of the response, which takes time by their length.
_MAX_STOPS = 10_000
# The text of base64, checked without decoding megabytes; its length is checked apart.
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
_RESULT_BLOCKS = ("text", "image", "document", "search_result", "tool_reference", "browser_state")
# Blocks of betas are told, by their policy.
_REFUSED: dict[str, tuple[tuple[type, ...], str]] = {
    "assistant": (
        (m.ImageBlock, m.ToolResultBlock),
        "this block can only stand in a user message",
    ),
    "system": (tuple(m.BLOCKS.values()), "only text blocks can stand in a system message"),
}
# Other blocks of the API that may stand in a user turn; what becomes of them, translation says.
_USER_BLOCKS = ("text", "image", "document", "search_result", "tool_result", "container_upload")
_SETS_NOTHING = (None, m.OutputConfig())

_MAX_MESSAGES = 100_000
_PIECE = 1024 * 1024

Problem = str


def problems(request: m.MessagesRequest, betas: frozenset[str] = frozenset()) -> Iterator[Problem]:
    """Each broken rule, as `path: text`. `betas` are what the header `anthropic-beta` names."""
    yield from _parameters(request, betas)
    yield from _tools(request)
    yield from _combinations(request)
    for n, block in enumerate(request.system):
        if not isinstance(block, m.TextBlock):
            yield f"system.{n}: only text blocks can stand here"
    if not request.messages:
        yield "messages: at least one message is required"
    elif request.messages[0].role == "system":  # the assistant may begin
        yield 'messages: first message must use the "user" role'
    if len(request.messages) > _MAX_MESSAGES:
        yield f"messages: List should have at most {_MAX_MESSAGES} items"
    for n, message in enumerate(request.messages):
        assistant = message.role == "assistant"  # what is sent as an answer is a valid turn
        sets_effort = message.role == "system" and message.output_config not in _SETS_NOTHING
        if message.content is m.ABSENT and message.role != "system":
            yield f"messages.{n}.content: Field required"
        elif not (message.content or assistant or sets_effort):
            yield (
                f"messages.{n}: all messages must have non-empty content "
                "except for the optional final assistant message"
            )
        for k, block in enumerate(message.content):
            yield from _block(block, message.role, f"messages.{n}.content.{k}")


def _parameters(request: m.MessagesRequest, betas: frozenset[str]) -> Iterator[Problem]:
    if not request.model.strip():
        yield "model: String should have at least 1 character"
    yield from _max_tokens(request)
    for name in ("temperature", "top_p"):
        value = getattr(request, name)
        if value is not None and not 0 <= value <= 1:
            yield f"{name}: Input should be between 0 and 1"
    if request.top_k is not None and request.top_k < 0:
        yield "top_k: Input should be greater than or equal to 0"
    if any(not each.strip() for each in request.stop_sequences):
        yield "stop_sequences: each stop sequence must contain non-whitespace"
    if sum(map(len, request.stop_sequences)) > _MAX_STOPS:
        yield f"stop_sequences: all of them should have at most {_MAX_STOPS} characters together"
    yield from _thinking(request, betas)


def _max_tokens(request: m.MessagesRequest) -> Iterator[Problem]:
    """0 only warms the prompt cache, so nothing may be asked for that needs an answer."""
    if request.max_tokens is None or request.max_tokens > 0:
        return
    if request.max_tokens < 0:
        yield "max_tokens: Input should be greater than or equal to 0"
        return
    wanted = {
        "stream": request.stream,
        "thinking": request.thinking is not None and request.thinking.type == "enabled",
        "output_config.format": request.form is not None,
        "tool_choice": request.tool_choice is not None and request.tool_choice.forced,
    }
    for name, given in wanted.items():
        if given:
            yield f"max_tokens: 0 cannot be used with `{name}`: ask for at least 1, or leave it out"


def _thinking(request: m.MessagesRequest, betas: frozenset[str]) -> Iterator[Problem]:
    """With interleaved thinking the budget is for the whole turn, of which this is one request."""
    thinking = request.thinking
    if thinking and thinking.type == "enabled":
        budget = thinking.budget_tokens
        if budget is None:
            yield "thinking.enabled.budget_tokens: Field required"
        elif budget < 1024:
            yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
        elif request.max_tokens and budget >= request.max_tokens and not _interleaved(betas):
            yield "`max_tokens` must be greater than `thinking.budget_tokens`"


def _interleaved(betas: frozenset[str]) -> bool:
    return any(beta.startswith("interleaved-thinking-") for beta in betas)


def _tools(request: m.MessagesRequest) -> Iterator[Problem]:
    names = [tool.name for tool in request.tools if tool.name]  # toolsets have none
    for n, tool in enumerate(request.tools):
        if not tool.custom:  # the API's own: their shape is known by the type
            continue
        if not _TOOL_NAME.fullmatch(tool.name):
            yield f"tools.{n}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
        if tool.input_schema is None:
            yield f"tools.{n}.input_schema: Field required"
        elif tool.input_schema.get("type") != "object":
            yield f"tools.{n}.input_schema.type: Input should be 'object'"
    if len(names) > len(set(names)):
        yield "tools: Tool names must be unique."
    choice = request.tool_choice
    if choice and not request.tools:
        yield "tool_choice: tool_choice may only be specified while providing tools."
    elif choice and choice.type == "tool" and choice.name not in names:
        yield f"tool_choice.name: there is no tool '{(choice.name or '')[:80]}' in tools"


def _combinations(request: m.MessagesRequest) -> Iterator[Problem]:
    """What cannot be given together."""
    choice, thinking = request.tool_choice, request.thinking
    if choice and choice.type in ("any", "tool") and thinking and thinking.type == "enabled":
        yield "Thinking may not be enabled when tool_choice forces tool use."
    if request.form is None:
        return
    last = request.messages[-1] if request.messages else None
    if last and last.role == "assistant" and last.content:
        yield "output_config.format: cannot be combined with a prefilled assistant message"
    blocks = (block for message in request.messages for block in message.content)
    if any(_has_citations(block) for block in blocks):
        yield "output_config.format: cannot be combined with citations"


def _has_citations(block: m.Block) -> bool:
    if isinstance(block, m.ToolResultBlock):
        return any(map(_has_citations, block.content))
    if not isinstance(block, (m.DocumentBlock, m.SearchResultBlock)):
        return False
    return bool(block.citations and block.citations.get("enabled"))


def _block(block: m.Block, role: str, path: str) -> Iterator[Problem]:
    if isinstance(block, m.TextBlock):
        if not block.text and role != "assistant":
            yield f"{path}.text: text content blocks must be non-empty"
    elif isinstance(block, m.MidConvSystemBlock) and role != "system":
        yield from _media(block, path)
    elif role in _REFUSED:
        kinds, why = _REFUSED[role]
        if isinstance(block, kinds):
            yield f"{path}: {why}"
    elif isinstance(block, m.ToolResultBlock):
        for k, inner in enumerate(block.content):
            yield from _result_block(inner, f"{path}.content.{k}")
    elif isinstance(block, m.OtherBlock) and block.type not in _USER_BLOCKS:
        yield f"{path}: {unknown_tag(block.type, _USER_BLOCKS)}"
    elif isinstance(block, (m.ToolUseBlock, m.ThinkingBlock)):
        yield f"{path}: this block can only stand in an assistant message"
    else:
        yield from _media(block, path)


def _result_block(block: m.Block, path: str) -> Iterator[Problem]:
    tag = block.type if isinstance(block, m.OtherBlock) else _TAGS[type(block)]
    if tag not in _RESULT_BLOCKS:
        yield f"{path}: {unknown_tag(tag, _RESULT_BLOCKS)}"
    yield from _media(block, path)


def _media(block: m.Block, path: str) -> Iterator[Problem]:
    if isinstance(block, (m.SearchResultBlock, m.MidConvSystemBlock)):
        for k, inner in enumerate(block.content):
            if not isinstance(inner, m.TextBlock):
                yield f"{path}.content.{k}: only text blocks can stand here"
    elif isinstance(block, (m.ImageBlock, m.DocumentBlock)):
        yield from _source(block, f"{path}.source")


def _source(block: m.ImageBlock | m.DocumentBlock, path: str) -> Iterator[Problem]:
    source = block.source
    if isinstance(source, m.Base64Source):
        if isinstance(block, m.ImageBlock) and source.media_type not in IMAGE_TYPES:
            yield f"{path}.media_type: Input should be {either(IMAGE_TYPES)}"
        if isinstance(block, m.DocumentBlock) and source.media_type != "application/pdf":
            yield f"{path}.media_type: Input should be 'application/pdf'"
        if not _is_base64(source.data):
            yield f"{path}.data: Input should be valid base64"
    elif isinstance(source, m.UrlSource) and not source.url.startswith(("http://", "https://")):
        yield f"{path}.url: Input should be an http or https URL"
    elif isinstance(source, m.ContentSource):
        for k, inner in enumerate(source.content):
            if not isinstance(inner, (m.TextBlock, m.ImageBlock)):
                yield f"{path}.content.{k}: only text and image blocks can stand here"
            yield from _media(inner, f"{path}.content.{k}")


def _is_base64(data: str) -> bool:
    """In pieces: each call holds Python's lock, and there may be 32 MiB."""
    end = len(data) - data.endswith("=") - data.endswith("==")
    pieces = (_BASE64.fullmatch(data, n, min(n + _PIECE, end)) for n in range(0, end, _PIECE))
    return end > 0 and len(data) % 4 == 0 and all(pieces)


_TAGS = {cls: tag for tag, cls in m.BLOCKS.items()}
