"""Requests of the Messages API as attrs classes.

Only what the proxy reads is a field. Members it does not read are kept by name in
`MessagesRequest.unread`, so that they can be told; see `stages.messages_api.unknown_fields`.
Source: the Messages API reference, versions 2023-06-01 and 2026-10-21.
"""

from __future__ import annotations

from typing import Any, Literal

from attrs import field, frozen

#: Claude Code begins the system prompt with this line. The line changes with each request.
ATTRIBUTION = "x-anthropic-billing-header:"


@frozen
class TextBlock:
    """Text."""

    text: str


@frozen
class Base64Source:
    """Bytes in the request. `data` is standard base64 without line breaks."""

    media_type: str
    data: str


@frozen
class UrlSource:
    """A URL the backend fetches."""

    url: str


@frozen
class FileSource:
    """A file of the Files API."""

    file_id: str


@frozen
class TextSource:
    """A plain-text document."""

    data: str


@frozen
class ContentSource:
    """A document made of blocks."""

    content: Content


@frozen
class ImageBlock:
    """An image: jpeg, png, gif or webp."""

    source: ImageSource


@frozen
class DocumentBlock:
    """A document: PDF bytes, a URL, plain text, or blocks."""

    source: DocumentSource
    title: str | None = None
    context: str | None = None
    citations: dict[str, Any] | None = None


@frozen
class SearchResultBlock:
    """A search result the client supplies."""

    source: str
    title: str
    content: Content
    citations: dict[str, Any] | None = None


@frozen
class ThinkingBlock:
    """Reasoning of an earlier answer."""

    thinking: str
    signature: str = ""


@frozen
class ToolUseBlock:
    """A tool call the model made."""

    id: str
    name: str
    input: dict[str, Any]
    toolset_name: str | None = None


@frozen
class ToolResultBlock:
    """The client's answer to a tool call."""

    tool_use_id: str
    content: Content = ()
    is_error: bool = False


@frozen
class MidConvSystemBlock:
    """What SDKs of a few months had for a system message; it stands in another one's turn."""

    content: Content


@frozen
class OtherBlock:
    """A block this proxy has no mapping for: its `type`, and whole as it came."""

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
    "text": TextBlock,
    "image": ImageBlock,
    "document": DocumentBlock,
    "search_result": SearchResultBlock,
    "thinking": ThinkingBlock,
    "tool_use": ToolUseBlock,
    "tool_result": ToolResultBlock,
    "mid_conv_system": MidConvSystemBlock,
}
IMAGE_SOURCES: dict[str, type] = {
    "base64": Base64Source,
    "url": UrlSource,
    "file": FileSource,
}
DOCUMENT_SOURCES = {**IMAGE_SOURCES, "text": TextSource, "content": ContentSource}
#: Blocks; on the wire also a string, which is one text block (none, if it is empty).
Content = tuple[Block, ...]


class _Absent(tuple[Block, ...]):
    __slots__ = ()


#: Instead of a content that is missing: empty, and not the same object as `()`.
ABSENT: Content = _Absent()


@frozen
class Message:
    """One turn. A string content is one text block.

    Of a system message, `output_config` goes for what follows, and `clear_at` says until when the
    model sees it.
    """

    role: Literal["user", "assistant", "system"]
    content: Content = ABSENT
    output_config: OutputConfig | None = None
    clear_at: Literal["next_user_message", "never"] | None = None


@frozen
class Tool:
    """A tool the client runs. `input_schema` is a JSON schema of type object.

    Tools with another `type` than `custom` are the API's own; they need not have a schema, and
    toolsets have no name.
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
    """Of a toolset, what differs for its members, by their names."""

    @property
    def custom(self) -> bool:
        """Whether the client has made it up, so that its own schema says what its input is."""
        return self.type in (None, "custom")


@frozen
class ToolChoice:
    """Which tool the model has to use. `name` only with `tool`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool = False

    @property
    def forced(self) -> bool:
        """Whether the answer has to be a tool call."""
        return self.type in ("any", "tool")


@frozen
class Thinking:
    """Whether the client wants reasoning, and to see it.

    `between_tools` is no thinking, but notes of progress between tool calls, in thinking blocks.
    """

    type: Literal["enabled", "adaptive", "disabled", "between_tools"]
    budget_tokens: int | None = None
    display: Literal["summarized", "omitted", "updates"] | None = None

    @property
    def blocks_allowed(self) -> bool:
        """Whether thinking blocks may be sent to this client."""
        return self.type != "disabled"

    @property
    def enabled(self) -> bool:
        """Whether the model is to think."""
        return self.type in ("enabled", "adaptive")


@frozen
class OutputFormat:
    """A JSON schema the answer's text has to fit."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


@frozen
class OutputConfig:
    """How much effort to spend, and the form of the answer."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None
    task_budget: dict[str, Any] | None = None


@frozen
class Metadata:
    """Who asks. `user_id` is opaque."""

    user_id: str | None = None


@frozen
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
    unread: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def form(self) -> OutputFormat | None:
        """The form of the answer; older clients say it in `output_format`."""
        return self.output_config.format or self.output_format

    @property
    def effort(self) -> str | None:
        """The effort wanted now: what the last system message says of it goes first."""
        said = (each.output_config for each in self.messages if each.role == "system")
        efforts = [each.effort for each in (self.output_config, *said) if each and each.effort]
        return efforts[-1] if efforts else None
