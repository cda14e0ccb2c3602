"""Requests of the Messages API as attrs classes. Their content blocks are in `blocks`.

Only members that the proxy reads are fields. `MessagesRequest.unknown_fields` has the names of
the others, for the report to the client; see `stages.messages_api.unknown_fields`.
Source: the Messages API reference, versions 2023-06-01 and 2026-10-21.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any, Literal

from attrs import field, frozen

from pipeline.event import event
from stages.messages_api.blocks import (
    Base64Source,
    Block,
    Content,
    ContentSource,
    DocumentBlock,
    FileSource,
    ImageBlock,
    MidConvSystemBlock,
    OtherBlock,
    SearchResultBlock,
    TextBlock,
    TextSource,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
    walk,
)

#: Modules that read requests import this module as `m`; the blocks are part of it.
__all__ = [
    "ABSENT",
    "ATTRIBUTION",
    "HISTORY_BLOCKS",
    "Base64Source",
    "Block",
    "Content",
    "ContentSource",
    "DocumentBlock",
    "FileSource",
    "ImageBlock",
    "Message",
    "MessagesRequest",
    "Metadata",
    "MidConvSystemBlock",
    "OtherBlock",
    "OutputConfig",
    "OutputFormat",
    "SearchResultBlock",
    "TextBlock",
    "TextSource",
    "Thinking",
    "ThinkingBlock",
    "Tool",
    "ToolChoice",
    "ToolResultBlock",
    "ToolUseBlock",
    "Turns",
    "UrlSource",
]

#: Claude Code begins the system prompt with this line. The line changes with each request.
ATTRIBUTION = "x-anthropic-billing-header:"


class _Absent(tuple[Block, ...]):
    __slots__ = ()


#: The content of a message that has none: empty, but not the same object as `()`.
ABSENT: Content = _Absent()


@frozen
class Message:
    """One turn.

    `output_config` and `clear_at` are only for system messages: the effort of the turns that
    follow, and how long the model sees the message.
    """

    role: Literal["user", "assistant", "system"]
    content: Content = ABSENT
    output_config: OutputConfig | None = None
    clear_at: Literal["next_user_message", "never"] | None = None


#: Blocks that may concern other messages than their own.
HISTORY_BLOCKS = (MidConvSystemBlock, OtherBlock)


class Turns(tuple[Message, ...]):
    """Messages of the user and the assistant in turn, without blocks that concern other messages.

    A conversation of such messages needs no normalisation; see `stages.translation.history`.
    """

    __slots__ = ()


def join_messages(groups: Sequence[tuple[Message, ...]]) -> tuple[Message, ...]:
    """Return the messages of all groups: as Turns, if the groups are, and their roles alternate."""
    messages = chain.from_iterable(groups)
    ends = [(group[0].role, group[-1].role) for group in groups]
    if {type(group) for group in groups} == {Turns} and all(
        before[1] != after[0] for before, after in pairwise(ends)
    ):
        return Turns(messages)
    return tuple(messages)


def as_turn(message: Message) -> tuple[Message, ...]:
    """Return a group of one message: as Turns, if it is a turn."""
    types = {type(block) for block in message.content}
    is_turn = message.role != "system" and types.isdisjoint(HISTORY_BLOCKS)
    return Turns((message,)) if is_turn else (message,)


@frozen
class Tool:
    """A tool that the client runs. `input_schema` is a JSON schema of type object.

    Tools with a `type` other than `custom` are the API's own. Those need no schema, and toolsets
    have no name.
    """

    name: str = ""
    input_schema: dict[str, Any] | None = None
    description: str | None = None
    type: str | None = None
    strict: bool | None = None
    input_examples: tuple[dict[str, Any], ...] = ()
    display_width_px: int | None = None
    display_height_px: int | None = None
    allowed_callers: tuple[str, ...] = ("direct",)
    configs: dict[str, Any] | None = None
    """Settings of a toolset's members, by their names."""

    @property
    def custom(self) -> bool:
        """Whether the client defines the tool; its `input_schema` then defines the input."""
        return self.type in (None, "custom")


@frozen
class ToolChoice:
    """Which tool the model must use. `name` is only for the type `tool`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False

    @property
    def forced(self) -> bool:
        """Whether the response must be a tool call."""
        return self.type in ("any", "tool")


@frozen
class Thinking:
    """Whether the model thinks, and whether the client sees it.

    `between_tools` is not thinking: the model writes progress notes between tool calls, in
    thinking blocks.
    """

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted", "updates"] | None = None

    @property
    def enabled(self) -> bool:
        """Whether the model thinks."""
        return self.type in ("enabled", "adaptive")


@frozen
class OutputFormat:
    """A JSON schema for the text of the response."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


@frozen
class OutputConfig:
    """The effort of the model, and the format of the response."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None
    task_budget: dict[str, Any] | None = None


@frozen
class Metadata:
    """The client's user. `user_id` is opaque."""

    user_id: str | None = None


@frozen
class UnreadMembers:
    """Members of a request whose value is checked although nothing reads it."""

    service_tier: Literal["auto", "standard_only"] | None = None
    speed: Literal["standard", "fast"] | None = None
    inference_geo: str | None = None


@event
class MessagesRequest:
    """The body of `POST /v1/messages`, and, with `max_tokens` None, of `count_tokens`."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None = None
    system: Content = ()
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig = OutputConfig()
    metadata: Metadata | None = None
    output_format: OutputFormat | None = None
    unknown_fields: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def wants_thinking(self) -> bool:
        """Whether the client wants the model to think."""
        return self.thinking is not None and self.thinking.enabled

    @property
    def allows_thinking_blocks(self) -> bool:
        """Whether the client accepts thinking blocks."""
        return self.thinking is not None and self.thinking.type != "disabled"

    @property
    def requires_tool(self) -> bool:
        """Whether the response must be a tool call."""
        return self.tool_choice is not None and self.tool_choice.forced

    @property
    def form(self) -> OutputFormat | None:
        """The format of the response; older clients send it as `output_format`."""
        return self.output_config.format or self.output_format

    @property
    def effort(self) -> str | None:
        """The effort of this response: that of the last system message with an effort counts."""
        messages = (message for message in self.messages if message.role == "system")
        configs = (self.output_config, *(message.output_config for message in messages))
        efforts = [config.effort for config in configs if config and config.effort]
        return efforts[-1] if efforts else None

    def walk(self) -> Iterator[Block]:
        """Yield each block of the system prompt and of the messages; see `blocks.walk`."""
        yield from walk(self.system)
        for message in self.messages:
            yield from walk(message.content)
