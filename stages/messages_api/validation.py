"""What the values of a Messages request may be, beyond their types.

The rules and their wording are those of the Messages API, because clients match on them.
Rules that the translation can repair (an interrupted tool, two turns of one role, an assistant
turn or text that is empty) are not checked: what can be answered is answered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from stages.messages_api import blocks as b
from stages.messages_api import request as m
from stages.messages_api.problem_texts import either, unknown_tag

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
#: The translator may search the text of a response for them; the time grows with their length.
_MAX_STOP_CHARACTERS = 10_000
# The alphabet of base64. The length is checked separately: megabytes are not decoded for a check.
_BASE64 = re.compile(r"[A-Za-z0-9+/]*")
# The blocks that a role cannot send, and the problem. Blocks of betas have a policy instead.
_REFUSED: dict[str, tuple[tuple[type, ...], str]] = {
    "user": (
        (b.ToolUseBlock, b.ThinkingBlock),
        "this block is only allowed in an assistant message",
    ),
    "assistant": (
        (b.ImageBlock, b.ToolResultBlock),
        "this block is only allowed in a user message",
    ),
    "system": (tuple(b.BLOCKS.values()), "only text blocks are allowed in a system message"),
}
# The blocks of the API that are allowed in a user turn; the translation decides about each.
_USER_BLOCKS = ("text", "image", "document", "search_result", "tool_result", "container_upload")
_RESULT_BLOCKS = ("text", "image", "document", "search_result", "tool_reference", "browser_state")
_ONLY_TEXT = (("text",), "only text blocks are allowed here")
# The types of blocks that are allowed inside a block, and the problem with others.
_INSIDE: dict[type, tuple[tuple[str, ...], str]] = {
    b.ToolResultBlock: (_RESULT_BLOCKS, ""),  # "": the API's own message for a wrong type
    b.DocumentBlock: (("text", "image"), "only text and image blocks are allowed here"),
    b.SearchResultBlock: _ONLY_TEXT,
    b.MidConvSystemBlock: _ONLY_TEXT,
}
_SETS_NOTHING = (None, m.OutputConfig())

_MAX_MESSAGES = 100_000
_SLICE = 1024 * 1024

Problem = str


def problems(
    request: m.MessagesRequest,
    betas: frozenset[str] = frozenset(),
    *,
    parts_checked: bool = False,
) -> Iterator[Problem]:
    """Each broken rule, as `path: text`. `betas` are the names in the header `anthropic-beta`.

    `parts_checked`: the messages and the tools have no problem by themselves; see
    `message_problems` and `tool_problems`.
    """
    yield from _parameters(request, betas)
    if request.tools and not parts_checked:
        yield from tool_problems(request.tools)
    if request.tool_choice or request.thinking or request.form:
        yield from _combinations(request)
    for n, block in enumerate(request.system):
        if not isinstance(block, b.TextBlock):
            yield f"system.{n}: only text blocks are allowed here"
    if not request.messages:
        yield "messages: at least one message is required"
    elif request.messages[0].role == "system":  # the assistant may begin
        yield 'messages: first message must use the "user" role'
    if len(request.messages) > _MAX_MESSAGES:
        yield f"messages: List should have at most {_MAX_MESSAGES} items"
    if not parts_checked:
        for n, message in enumerate(request.messages):
            yield from message_problems(message, f"messages.{n}")


def message_problems(message: m.Message, path: str) -> Iterator[Problem]:
    """Each rule that a message breaks by itself, whatever the others are."""
    assistant = message.role == "assistant"  # an empty response is a valid turn
    sets_effort = message.role == "system" and message.output_config not in _SETS_NOTHING
    if message.content is m.ABSENT and message.role != "system":
        yield f"{path}.content: Field required"
    elif not (message.content or assistant or sets_effort):
        yield (
            f"{path}: all messages must have non-empty content "
            "except for the optional final assistant message"
        )
    yield from _blocks(message, f"{path}.content")


def _parameters(request: m.MessagesRequest, betas: frozenset[str]) -> Iterator[Problem]:
    if not request.model.strip():
        yield "model: String should have at least 1 character"
    if request.max_tokens is not None and request.max_tokens <= 0:
        yield from _max_tokens(request, request.max_tokens)
    for name in ("temperature", "top_p"):
        value = getattr(request, name)
        if value is not None and not 0 <= value <= 1:
            yield f"{name}: Input should be between 0 and 1"
    if request.top_k is not None and request.top_k < 0:
        yield "top_k: Input should be greater than or equal to 0"
    if request.stop_sequences:
        yield from _stop_sequences(request.stop_sequences)
    if request.thinking and request.thinking.type == "enabled":
        yield from _thinking_budget(request.thinking, request.max_tokens, betas)


def _stop_sequences(sequences: tuple[str, ...]) -> Iterator[Problem]:
    if not all(map(str.strip, sequences)):
        yield "stop_sequences: each stop sequence must contain non-whitespace"
    if sum(map(len, sequences)) > _MAX_STOP_CHARACTERS:
        limit = f"at most {_MAX_STOP_CHARACTERS} characters"
        yield f"stop_sequences: all of them should have {limit} together"


def _max_tokens(request: m.MessagesRequest, max_tokens: int) -> Iterator[Problem]:
    """0 only warms the prompt cache, so it cannot be combined with what needs a response."""
    if max_tokens < 0:
        yield "max_tokens: Input should be greater than or equal to 0"
        return
    options = {
        "stream": request.stream,
        "thinking": request.thinking is not None and request.thinking.type == "enabled",
        "output_config.format": request.form is not None,
        "tool_choice": request.tool_choice is not None and request.tool_choice.forced,
    }
    for name, is_set in options.items():
        if is_set:
            yield f"max_tokens: 0 cannot be used with `{name}`: send at least 1, or omit `{name}`"


def _thinking_budget(
    thinking: m.Thinking, max_tokens: int | None, betas: frozenset[str]
) -> Iterator[Problem]:
    """With interleaved thinking the budget is that of a whole turn of several requests."""
    budget = thinking.budget_tokens
    if budget is None:
        yield "thinking.enabled.budget_tokens: Field required"
    elif budget < 1024:
        yield "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
    elif max_tokens and budget >= max_tokens and not _interleaved(betas):
        yield "`max_tokens` must be greater than `thinking.budget_tokens`"


def _interleaved(betas: frozenset[str]) -> bool:
    return any(beta.startswith("interleaved-thinking-") for beta in betas)


def tool_problems(tools: Sequence[m.Tool]) -> Iterator[Problem]:
    """Each rule that tools break, whatever the messages are."""
    names = [tool.name for tool in tools if tool.name]  # toolsets have none
    for n, tool in enumerate(tools):
        if not tool.custom:  # the API's own tool: its type defines its shape
            continue
        if not _TOOL_NAME.fullmatch(tool.name):
            yield f"tools.{n}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
        if tool.input_schema is None:
            yield f"tools.{n}.input_schema: Field required"
        elif tool.input_schema.get("type") != "object":
            yield f"tools.{n}.input_schema.type: Input should be 'object'"
    if len(names) > len(set(names)):
        yield "tools: Tool names must be unique."


def _tool_choice(choice: m.ToolChoice, tools: Sequence[m.Tool]) -> Iterator[Problem]:
    if not tools:
        yield "tool_choice: tool_choice may only be specified while providing tools."
    elif choice.type == "tool" and choice.name not in [tool.name for tool in tools if tool.name]:
        yield f"tool_choice.name: there is no tool '{(choice.name or '')[:80]}' in tools"


def _combinations(request: m.MessagesRequest) -> Iterator[Problem]:
    """Members that exclude or need each other."""
    choice, thinking = request.tool_choice, request.thinking
    if choice:
        yield from _tool_choice(choice, request.tools)
    if choice and choice.type in ("any", "tool") and thinking and thinking.type == "enabled":
        yield "Thinking may not be enabled when tool_choice forces tool use."
    if request.form is None:
        return
    last = request.messages[-1] if request.messages else None
    if last and last.role == "assistant" and last.content:
        yield "output_config.format: cannot be combined with a prefilled assistant message"
    if any(map(_has_citations, request.walk())):
        yield "output_config.format: cannot be combined with citations"


def _has_citations(block: b.Block) -> bool:
    if not isinstance(block, (b.DocumentBlock, b.SearchResultBlock)):
        return False
    return bool(block.citations and block.citations.get("enabled"))


def _blocks(message: m.Message, path: str) -> Iterator[Problem]:
    """The problems of a message's blocks. Those inside a block of the assistant are not checked."""
    user = message.role == "user"
    for place, block, parent in b.walk_paths(message.content, path):
        if parent is None:
            if isinstance(block, b.TextBlock):
                if not block.text and message.role != "assistant":
                    yield f"{place}.text: text content blocks must be non-empty"
                continue
            problem = _misplaced(block, message.role)
        elif user or isinstance(parent, b.MidConvSystemBlock):
            problem = _misplaced_inside(block, parent)
        else:
            continue
        if problem:
            yield f"{place}: {problem}"
        if user and isinstance(block, (b.ImageBlock, b.DocumentBlock)):
            yield from _source(block, f"{place}.source")


def _misplaced(block: b.Block, role: str) -> Problem:
    """What is wrong with a block in a message of this role; "" if nothing is."""
    if isinstance(block, b.OtherBlock):
        allowed = role != "user" or block.type in _USER_BLOCKS
        return "" if allowed else unknown_tag(block.type, _USER_BLOCKS)
    if isinstance(block, b.MidConvSystemBlock) and role != "system":
        return ""
    classes, problem = _REFUSED[role]
    return problem if isinstance(block, classes) else ""


def _misplaced_inside(block: b.Block, parent: b.Block) -> Problem:
    """What is wrong with a block inside another one; "" if nothing is."""
    types, problem = _INSIDE.get(type(parent), ((block.type,), ""))
    return "" if block.type in types else problem or unknown_tag(block.type, types)


def _source(block: b.ImageBlock | b.DocumentBlock, path: str) -> Iterator[Problem]:
    source = block.source
    if isinstance(source, b.Base64Source):
        if isinstance(block, b.ImageBlock) and source.media_type not in IMAGE_TYPES:
            yield f"{path}.media_type: Input should be {either(IMAGE_TYPES)}"
        if isinstance(block, b.DocumentBlock) and source.media_type != "application/pdf":
            yield f"{path}.media_type: Input should be 'application/pdf'"
        if not _is_base64(source.data):
            yield f"{path}.data: Input should be valid base64"
    elif isinstance(source, b.UrlSource) and not source.url.startswith(("http://", "https://")):
        yield f"{path}.url: Input should be an http or https URL"


def _is_base64(data: str) -> bool:
    """Match in slices: each call holds Python's lock, and `data` may have 32 MiB."""
    end = len(data) - data.endswith("=") - data.endswith("==")
    slices = (_BASE64.fullmatch(data, n, min(n + _SLICE, end)) for n in range(0, end, _SLICE))
    return end > 0 and len(data) % 4 == 0 and all(slices)
