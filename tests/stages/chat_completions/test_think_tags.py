"""Reasoning between tags in the text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages.chat_completions.think_tags import THINK, Tags, ThinkTags
from tests.cases import for_each


def split(pieces: list[str], pairs: Tags = THINK) -> dict[str, str]:
    tags = ThinkTags(pairs)
    matches = [item for piece in pieces for item in tags.feed(piece)]
    matches += tags.finish()
    return {kind: "".join(t for k, t in matches if k == kind) for kind in ("thinking", "text")}


@for_each(
    ("text", "thinking", "remaining"),
    [
        ("<think>a</think>b", "a", "b"),
        ("\n <think>\na\n</think>\n\nb", "\na\n", "b"),
        ("b <think>a</think>", "", "b <think>a</think>"),
        ("<think>a", "a", ""),
        ("<think>a</thin", "a</thin", ""),
        ("<thin", "", "<thin"),
        ("<thing>", "", "<thing>"),
        ("<think></think>", "", ""),
        ("  plain", "", "  plain"),
        ("<think>a < b</think>c <think>d</think>", "a < b", "c <think>d</think>"),
    ],
)
def test_tags_at_the_beginning_are_reasoning(text: str, thinking: str, remaining: str) -> None:
    assert split([text]) == {"thinking": thinking, "text": remaining}


#: `<a>` is in the prompt: the last opens with nothing.
INSIDE: Tags = (("<a>", "</a>"), ("<ab>", "-"), ("", "</a>"))


@for_each(
    ("text", "thinking", "remaining"),
    [
        ("x</a>y", "x", "y"),
        ("<a>x</a>y", "x", "y"),
        ("\n<ab>x-y", "x", "y"),
        ("x", "x", ""),
        ("<a", "", "<a"),
        (" ", "", " "),
    ],
)
def test_after_a_tag_in_the_prompt_the_text_is_reasoning(
    text: str, thinking: str, remaining: str
) -> None:
    assert split([text], INSIDE) == {"thinking": thinking, "text": remaining}


def test_without_tags_all_is_text() -> None:
    assert split(["<think>a</think>"], ()) == {"thinking": "", "text": "<think>a</think>"}


@given(st.text("<>/think ab-\n", max_size=40), st.sampled_from([THINK, INSIDE, ()]), st.data())
def test_it_does_not_matter_where_the_text_is_cut(
    text: str, tags: Tags, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole, cut = split([text], tags), split(pieces, tags)

    assert cut == whole
