"""The texts of an exchange: cut, redacted, and only where they are switched on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from stages.exchange import Exchange
from stages.messages_api.request import (
    Base64Source,
    ImageBlock,
    Message,
    MessagesRequest,
    TextBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
)
from stages.messages_api.stream_events import BlockDelta, BlockStart, BlockStop, MessageStart
from stages.messages_api.usage import Usage
from stages.page.packing import unpack
from stages.page.recent import RecentExchanges
from stages.page.texts import TEXT, TOTAL, TextCollector, Texts, cut

KEY = "sk-proj-1234567890abcdefghij"


def request(*blocks: Any, **changes: Any) -> MessagesRequest:
    return MessagesRequest("m", (Message("user", tuple(blocks)),), 10, **changes)


def collected(asked: MessagesRequest, *deltas: BlockDelta, **block: Any) -> Texts:
    collector = TextCollector()
    collector.add(MessageStart("msg_1", "m", Usage(), asked))
    collector.add(BlockStart(0, block or {"type": "text", "text": ""}))
    for delta in deltas:
        collector.add(delta)
    collector.add(BlockStop(0))
    texts = collector.texts()
    assert texts is not None
    assert Texts.decoded(texts.encoded()) == texts
    return texts


def test_texts_have_prompt_tools_and_response_without_secrets() -> None:
    asked = request(
        TextBlock(f"use {KEY}"),
        ImageBlock(Base64Source("image/png", "A" * 16_000)),
        ToolUseBlock("t1", "login", {"user": "me", "password": "plain words"}),
        ToolResultBlock("t1", (TextBlock("Bearer abcdef1234567"),)),
        system=(TextBlock("mail me@example.com"),),
        tools=(Tool("login"), Tool("read")),
    )

    texts = collected(
        asked, BlockDelta(0, "text_delta", KEY[:9]), BlockDelta(0, "text_delta", KEY[9:])
    )

    shown = [(each.title, each.text) for each in texts.request]
    assert shown[:4] == [
        ("tools", "login, read"),
        ("system: text", "mail [redacted]"),
        ("user: text", "use [redacted]"),
        ("user: image", "image, 12 KB"),
    ]
    assert shown[4][0] == "user: tool_use login"
    assert '"password": "[redacted]"' in shown[4][1]
    assert "plain words" not in shown[4][1]
    assert shown[5] == ("user: tool_result", "Bearer [redacted]")
    assert [each.text for each in texts.response] == ["[redacted]"]


def test_the_arguments_of_a_call_are_redacted_as_members() -> None:
    delta = BlockDelta(0, "input_json_delta", '{"api_key":"two \\"words\\"","path":"/tmp"}')

    texts = collected(request(), delta, type="tool_use", id="t1", name="call", input={})

    assert texts.response[0].title == "tool_use call"
    assert "words" not in texts.response[0].text
    assert '"path": "/tmp"' in texts.response[0].text


def test_no_half_of_a_secret_stays_at_a_cut() -> None:
    text = "x " * ((TEXT - 10) // 2) + KEY + " y" * TEXT

    assert "sk-" not in cut(text)
    assert cut(text).endswith(f"[cut after {TEXT - 11:,} characters]")
    assert cut("k" * (TEXT + 1)) == "\n[cut after 0 characters]"
    assert cut("k" * TEXT) == "k" * TEXT


def test_texts_have_a_limit_and_say_what_is_missing() -> None:
    blocks = [TextBlock(f"{n} " + "word " * 2000) for n in range(100)]
    deltas = [BlockDelta(0, "text_delta", "word " * 100_000) for _ in range(10)]

    texts = collected(request(*blocks), *deltas)

    assert len(texts.encoded()) < 2 * TOTAL
    assert texts.omitted == 100 - len(texts.request)
    assert texts.request[-1].text.startswith("99 ")
    assert "[cut after" in texts.response[0].text


def exchange(recent: RecentExchanges, id: str, text: str = "hello") -> None:
    """Begin and end an exchange with a prompt."""
    begun = Exchange(id=id, outcome="complete", received=100)
    recent.begin(begun)
    for function in begun.on_stream_event:
        function(MessageStart("msg_1", "m", Usage(), request(TextBlock(text)), begun))
    for end in begun.on_end:
        end(begun)


def test_nothing_is_kept_by_default() -> None:
    recent, begun = RecentExchanges(), Exchange(id="req_0")
    recent.begin(begun)
    assert begun.on_stream_event == []
    exchange(recent, "req_1", "the-prompt")

    assert recent.texts("req_1") is None
    assert all(b"the-prompt" not in data for _, data in recent._ring._items)


def test_texts_are_within_the_limit_of_bytes() -> None:
    recent = RecentExchanges(max_bytes=15_000, bodies=True)
    for n in range(5):
        exchange(recent, f"req_{n}", "word " * 790)

    assert recent.counts["bytes"] <= 15_000
    assert recent.counts["dropped"] > 0
    texts = recent.texts("req_4")
    assert texts
    assert texts.request[0].text == "word " * 790
    assert [each.id for each in map(unpack, recent.newest(1))] == ["req_4"]


def test_of_many_exchanges_in_a_second_five_have_texts() -> None:
    recent = RecentExchanges(bodies=True)
    for n in range(10):
        exchange(recent, f"req_{n}")

    assert [bool(recent.texts(f"req_{n}")) for n in range(10)] == [True] * 5 + [False] * 5


@pytest.mark.parametrize("between", [[], [RecentExchanges(bodies=True)]])
def test_a_reload_that_switches_them_off_drops_them(between: list[RecentExchanges]) -> None:
    old, new = RecentExchanges(bodies=True), RecentExchanges()
    exchange(old, "req_1", "the-prompt")
    old.begin(in_flight := Exchange(id="req_2", received=100))
    for function in in_flight.on_stream_event:
        function(MessageStart("m", "m", Usage(), request(TextBlock("the-prompt")), in_flight))

    for before, after in pairwise((old, *between, new)):
        after.carry_over(before)
        after.serve((), dict)
    for end in in_flight.on_end:
        end(in_flight)

    assert [each.id for each in map(unpack, new.newest(9))] == ["req_2", "req_1"]
    assert all(b"the-prompt" not in data for _, data in new._ring._items)
    assert new.counts["bytes"] < 2000
