"""Reasoning between tags in the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.translation.think_tags import ThinkTags


def split(pieces: list[str]) -> dict[str, str]:
    tags = ThinkTags()
    found = [each for piece in pieces for each in tags.feed(piece)]
    found += tags.finish()
    return {kind: "".join(t for k, t in found if k == kind) for kind in ("thinking", "text")}


@pytest.mark.parametrize(
    ("text", "thinking", "rest"),
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
def test_tags_at_the_beginning_are_reasoning(text: str, thinking: str, rest: str) -> None:
    assert split([text]) == {"thinking": thinking, "text": rest}


@given(st.text("<>/think ab\n", max_size=40), st.data())
def test_it_does_not_matter_where_the_text_is_cut(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole, cut = split([text]), split(pieces)

    assert cut == whole
