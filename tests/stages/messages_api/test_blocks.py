"""`walk` visits each block, wherever it is: the classes say what is inside them."""

from __future__ import annotations

from collections.abc import Iterator
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs
import pytest
from attrs import field, frozen

from stages.messages_api import blocks as b
from stages.messages_api.request import Message, MessagesRequest
from stages.routing.traits import has_images, input_tokens
from stages.translation.request import chat_request
from tests.cases import for_each
from tests.support import profile, resolved

INNER = b.ImageBlock(b.UrlSource("https://x.invalid/inner"))


def holders(cls: Any, inner: Any) -> Iterator[tuple[str, Any]]:
    """Objects of `cls`, each with `inner` in one field that can hold blocks, and its path."""
    hints = get_type_hints(cls)
    for name in (item.name for item in attrs.fields(cls)):
        for path, value in values(hints[name], inner):
            others = {item.name: sample(hints[item.name]) for item in required(cls)}
            yield f"{name}{path}", cls(**{**others, name: value})


def values(kind: Any, inner: Any) -> Iterator[tuple[str, Any]]:
    """The values of a type that contain `inner`."""
    if kind == b.Content:
        yield "", (inner,)
    elif get_origin(kind) in (Union, UnionType):
        for option in get_args(kind):
            yield from values(option, inner)
    elif attrs.has(kind):
        yield from ((f".{path}", value) for path, value in holders(kind, inner))


def required(cls: Any) -> list[Any]:
    return [field for field in attrs.fields(cls) if field.default is attrs.NOTHING]


def sample(kind: Any) -> Any:
    if kind == b.Content:
        return ()
    if get_origin(kind) in (Union, UnionType):
        return b.UrlSource("https://x.invalid/a")
    return {} if get_origin(kind) is dict else "a"


HOLDERS = {
    f"{tag}.{path}": (path, block)
    for tag, cls in b.BLOCKS.items()
    for path, block in holders(cls, INNER)
}


def test_the_places_for_blocks_inside_blocks_are_these() -> None:
    """For the reader: the test below finds them in the types."""
    assert set(HOLDERS) == {
        "document.source.content",
        "search_result.content",
        "tool_result.content",
        "mid_conv_system.content",
    }


@pytest.mark.parametrize(("path", "block"), HOLDERS.values(), ids=HOLDERS)
def test_each_field_that_can_hold_blocks_is_in_children(path: str, block: Any) -> None:
    assert block.children == (INNER,)
    assert list(b.walk([block])) == [block, INNER]
    assert list(b.walk_paths([block], "content")) == [
        ("content.0", block, None),
        (f"content.0.{path}.0", INNER, block),
    ]


@for_each("tag", b.BLOCKS)
def test_a_class_knows_its_type_and_is_in_the_union(tag: str) -> None:
    cls: Any = b.BLOCKS[tag]

    assert cls.type == tag
    assert cls in get_args(b.Block)


def test_blocks_are_visited_in_the_order_of_the_text() -> None:
    one, two, three = (b.TextBlock(text) for text in "123")
    document = b.DocumentBlock(b.ContentSource((two,)))
    result = b.ToolResultBlock("a", (document, three))

    assert list(b.walk([one, result])) == [one, result, document, two, three]
    assert [path for path, _, _ in b.walk_paths([one, result], "messages.0.content")] == [
        "messages.0.content.0",
        "messages.0.content.1",
        "messages.0.content.1.content.0",
        "messages.0.content.1.content.0.source.content.0",
        "messages.0.content.1.content.1",
    ]


@frozen
class Gallery(b.ImageBlock):
    """A class that no other module knows. An image too, so that it is in the union of blocks."""

    type = "gallery"
    shown: b.Content = field(kw_only=True)

    @property
    def children(self) -> b.Content:
        return self.shown


def test_blocks_inside_a_new_class_are_visited() -> None:
    text = b.TextBlock("x" * 4000)
    gallery = Gallery(b.UrlSource("https://x.invalid/a"), shown=(text, INNER))
    request = MessagesRequest("m", (Message("user", (gallery,)),))

    assert list(request.walk()) == [gallery, text, INNER]
    assert input_tokens(request) == 1000 + 2 * 1300


@pytest.mark.parametrize(("_", "block"), HOLDERS.values(), ids=HOLDERS)
def test_routing_finds_an_image_inside_any_block(_: str, block: Any) -> None:
    assert has_images(MessagesRequest("m", (Message("user", (block,)),)))


def test_an_image_in_a_document_of_a_tool_result_is_sent() -> None:
    source = {"type": "url", "url": "https://x.invalid/inner"}
    inner = {"type": "content", "content": [{"type": "image", "source": source}]}
    result = {"type": "tool_result", "tool_use_id": "a"}
    use = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
    turns = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": [use]},
        {
            "role": "user",
            "content": [{**result, "content": [{"type": "document", "source": inner}]}],
        },
    ]
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    sent = chat_request(resolved(messages=turns, tools=tools), profile(fields={"image.url": "map"}))

    assert sent.messages[-1]["content"][-1]["image_url"]["url"] == source["url"]
