"""Images, documents and other content blocks."""

from __future__ import annotations

from typing import Any

import pytest

from stages.messages_api.errors import InvalidRequestError
from tests.cases import for_each
from tests.stages.translation.conversation_support import (
    IMAGE,
    IMAGE_PART,
    assistant,
    noted,
    part,
    result,
    text,
    tool,
    translated,
    use,
    user,
)

# Pictures and documents


def test_pictures_and_texts_keep_their_order() -> None:
    url = {"type": "image", "source": {"type": "url", "url": "https://x.invalid/a.png"}}
    assert translated(user(IMAGE, text("and"), url)) == [
        {
            "role": "user",
            "content": [
                IMAGE_PART,
                part("and"),
                {"type": "image_url", "image_url": {"url": "https://x.invalid/a.png"}},
            ],
        }
    ]


def test_a_document_of_text_has_its_header() -> None:
    document = {
        "type": "document",
        "title": "T",
        "context": "C",
        "source": {"type": "text", "data": "body"},
    }
    assert translated(user(document, text("Sum up"))) == [
        {"role": "user", "content": "T\nC\n\nbody\n\nSum up"}
    ]


def test_a_document_of_blocks_is_its_header_and_its_blocks() -> None:
    document = {
        "type": "document",
        "title": "T",
        "source": {"type": "content", "content": [text("one"), IMAGE]},
    }
    assert translated(user(document)) == [
        {"role": "user", "content": [part("T"), part("one"), IMAGE_PART]}
    ]


def test_a_document_of_one_string_is_text() -> None:
    document = {"type": "document", "source": {"type": "content", "content": "body"}}
    assert translated(user(document)) == [{"role": "user", "content": "body"}]


def test_a_search_result_is_text() -> None:
    matches = {
        "type": "search_result",
        "source": "https://x.invalid",
        "title": "T",
        "content": [text("one"), text("two")],
    }
    assert translated(user(matches)) == [
        {"role": "user", "content": "T\nhttps://x.invalid\n\none\ntwo"}
    ]


def test_a_document_of_the_assistant_is_text() -> None:
    for source in ({"type": "text", "data": "body"}, {"type": "content", "content": "body"}):
        document = {"type": "document", "title": "T", "source": source}
        turns = user("a"), assistant(document)
        assert translated(*turns)[1] == {"role": "assistant", "content": "T\n\nbody"}


PDF = {"type": "base64", "media_type": "application/pdf", "data": "QUJD"}


@for_each(
    ("block", "fields", "words"),
    [
        (
            {"type": "document", "source": PDF},
            {"document.pdf": "reject"},
            "send the document as text",
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "https://x.invalid"}},
            {},
            "fetches no documents: send the document itself",
        ),
        (
            {"type": "document", "source": {"type": "file", "file_id": "f"}},
            {},
            "no Files API here: send the document itself",
        ),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, {}, "no Files API here"),
        (IMAGE, {"image.base64": "reject"}, "this model takes no images"),
        (
            {"type": "image", "source": {"type": "url", "url": "https://x.invalid"}},
            {"image.url": "reject"},
            "fetches no URLs: send the image as base64",
        ),
    ],
    ids=["PDF", "PDF at a URL", "PDF as a file", "image as a file", "no vision", "no URLs"],
)
@for_each("place", ["typed", "in a result"])
def test_pitfall_29_an_unsupported_block_is_refused_with_a_hint(
    block: dict[str, Any], fields: dict[str, str], words: str, place: str
) -> None:
    last = user(block) if place == "typed" else user(result("1", [block]))
    with pytest.raises(InvalidRequestError, match=words):
        translated(user("a"), assistant(use("1")), last, fields=fields)


def test_inline_images_are_taken_where_urls_are_not() -> None:
    [result] = translated(user(IMAGE), fields={"image.url": "reject"})
    assert result["content"] == [IMAGE_PART]


@pytest.mark.parametrize(("policy", "notes"), [("warn", ("image.base64:dropped",)), ("drop", ())])
def test_a_dropped_image_is_replaced_by_a_note(policy: str, notes: tuple[str, ...]) -> None:
    fields = {"image.base64": policy}
    unseen = "[an image that this model cannot see]"
    [result] = translated(user(text("a"), IMAGE), fields=fields)
    assert result["content"] == f"a\n\n{unseen}"
    assert noted(user(text("a"), IMAGE), fields=fields) == notes


@pytest.mark.parametrize(
    ("policy", "notes"), [("warn", ("tool_result.image:dropped",)), ("drop", ())]
)
def test_a_dropped_image_of_a_result_is_not_called_attached(
    policy: str, notes: tuple[str, ...]
) -> None:
    turns = user("a"), assistant(use("1")), user(result("1", [text("x"), IMAGE]))
    fields = {"tool_result.image": policy}
    assert translated(*turns, fields=fields)[2:] == [
        tool("1", "x\n[an image that this model cannot see]")
    ]
    assert noted(*turns, fields=fields) == notes


LEFT_OUT: dict[str, tuple[dict[str, Any], str]] = {
    "search_result": (
        {"type": "search_result", "source": "s", "title": "t", "content": [text("gone")]},
        "search_result",
    ),
    "a document of text": (
        {"type": "document", "source": {"type": "text", "data": "gone"}},
        "document.text",
    ),
    "a document of blocks": (
        {"type": "document", "title": "gone", "source": {"type": "content", "content": "gone"}},
        "document.content",
    ),
}


@pytest.mark.parametrize(("block", "name"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_a_block_with_the_policy_warn_is_dropped_and_reported(
    block: dict[str, Any], name: str
) -> None:
    turns = user("a"), assistant(use("1")), user(result("1", [block, text("x")]), block, text("b"))
    fields = {name: "warn"}
    assert translated(*turns, fields=fields)[2:] == [
        tool("1", "x"),
        {"role": "user", "content": "b"},
    ]
    assert noted(*turns, fields=fields) == (f"{name}:dropped",)


def test_missing_citations_are_reported_for_a_pdf_sent_unchanged() -> None:
    document = {"type": "document", "source": PDF, "citations": {"enabled": True}}
    assert noted(user(document), fields={"document.pdf": "map"}) == ("document.citations:dropped",)
    assert noted(user({**document, "citations": None}), fields={"document.pdf": "map"}) == ()


def test_a_model_without_vision_is_reported_for_any_source() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "http://a.invalid/b.png"}}
    with pytest.raises(InvalidRequestError, match="takes no images"):
        translated(user(image), fields={"image.base64": "reject", "image.url": "reject"})
