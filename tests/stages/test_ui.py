"""The stage `ui`: its parts, their headers, and text of clients in them."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from pipeline.testing import check_stage, run_stage
from stages.backends.call_queue import QueuedCall
from stages.events import Authenticated, HttpRequest, ResponseBody, ResponseStart
from stages.exchange import Attempt, Degradation, Exchange, Target
from stages.messages_api.errors import NotFoundError
from stages.messages_api.request import Message, MessagesRequest, TextBlock
from stages.messages_api.stream_events import BlockDelta, BlockStart, MessageStart
from stages.messages_api.usage import Usage
from stages.page import rendering
from stages.page.recent import RecentExchanges
from stages.page.rendering import ended_row, static_files
from stages.ui import Ui
from stages.usage.database import Database
from stages.usage.record import UsageRecord
from stages.usage.report import Line, line_fields
from stages.usage.rows import DAY, Sums
from tests.cases import for_each
from tests.stages.page.exchanges import ended
from tests.stages.usage.support import row
from tests.support import ON_BOTH, backend

SCRIPT = "<script>alert('x')</script>"
PROMPT = Message("user", (TextBlock(f"prompt {SCRIPT}"),))
#: What a client or a backend can choose, and the page shows.
HOSTILE: dict[str, Any] = {
    name: f'{name}"{SCRIPT}' for name in ("model", "session", "agent", "parent_agent", "client")
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def asking(below: str = "", query: str = "", **headers: str) -> Authenticated:
    """A request for the part `below`, as the endpoint makes it."""
    path = f"/ui/{below}" if below else "/ui"
    params = {"path": below} if below else {}
    values = dict(part.split("=") for part in query.split("&") if part)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Authenticated(HttpRequest("GET", path, fields, values, params))


async def load(stage: Ui, event: Authenticated) -> tuple[ResponseStart, str]:
    start, body = await run_stage(stage, [event])
    assert isinstance(start, ResponseStart)
    assert isinstance(body, ResponseBody)
    assert start.headers["content-length"] == str(len(body.data))
    return start, body.data.decode()


def recording(*exchanges: Exchange) -> RecentExchanges:
    """A record of exchanges that have ended."""
    recent = RecentExchanges()
    for exchange in exchanges:
        times = exchange.stream_times
        recent.begin(exchange)
        exchange.stream_times = times
        exchange.on_end[0](exchange)
    return recent


@define
class Links(HTMLParser):
    """The targets of links, and tags and attributes that the CSP would block."""

    links: list[str] = field(factory=list)
    blocked: list[str] = field(factory=list)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.links += [str(values[name]) for name in ("href", "src") if name in values]
        self.blocked += [f"{tag} {n}" for n in values if n == "style" or n.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in values):
            self.blocked.append(tag)


def parsed(text: str) -> Links:
    parser = Links()
    parser.feed(text)
    return parser


@ON_BOTH
async def test_it_keeps_to_the_contract() -> None:
    await check_stage(Ui(), [asking()])


@pytest.mark.parametrize("below", ["", "usage", "exchanges/req_1", "exchanges/req_2"])
async def test_each_part_is_a_page_without_inline_code(below: str) -> None:
    start, text = await load(Ui(recording(ended())), asking(below))

    assert start.status == (404 if below.endswith("req_2") else 200)
    assert start.headers["content-type"] == "text/html; charset=utf-8"
    assert start.headers["cache-control"] == "no-store"
    assert start.headers["x-content-type-options"] == "nosniff"
    assert start.headers["referrer-policy"] == "no-referrer"
    policy = start.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert text.startswith("<!doctype html>")
    assert parsed(text).blocked == []


@pytest.mark.parametrize("below", ["", "usage", "exchanges/req_1"])
async def test_links_lead_to_parts_and_files_that_exist(below: str) -> None:
    stage = Ui(recording(ended()))
    _, text = await load(stage, asking(below))

    names = set()
    for link in parsed(text).links:
        if not link.startswith(("#", "?")):
            levels = link.count("../")
            assert levels == (below.count("/") + 1 if below else 0)
            path = link.rpartition("../")[2].partition("?")[0]
            assert path == "ui" or path.startswith("ui/")
            names.add(path.removeprefix("ui").removeprefix("/"))
    for name in names:
        assert (await load(stage, asking(name)))[0].status == 200
    assert {"", "usage", "static/page.css", "static/page.js", "static/htmx.min.js"} <= names


async def test_static_files_are_cached_for_good_by_their_digest() -> None:
    start, _ = await load(Ui(), asking("static/page.css"))

    assert start.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in start.headers["cache-control"]
    assert all("nosniff" in headers.values() for _, headers in static_files().values())


@for_each("below", ["x", "static", "static/", "static/x", "static/../x.py", "usage/x"])
async def test_other_paths_are_404s(below: str) -> None:
    with pytest.raises(NotFoundError):
        await load(Ui(), asking(below))


async def test_an_open_page_gets_its_contents_alone() -> None:
    _, text = await load(Ui(recording(ended())), asking(hx_request="true"))

    assert text.lstrip().startswith("<main")
    assert "<head" not in text


@pytest.mark.parametrize("below", ["", "exchanges/req_1"])
async def test_text_of_clients_and_backends_is_escaped(below: str) -> None:
    error: dict[str, Any] = dict.fromkeys(("error", "message", "stop_reason"), SCRIPT)
    recent = recording(
        ended(**HOSTILE, **error, outcome="error", repaired_calls=[SCRIPT], path=SCRIPT)
    )

    _, text = await load(Ui(recent), asking(below))

    assert SCRIPT not in text
    assert text.count("&lt;script&gt;") >= 3
    assert parsed(text).blocked == []


@pytest.mark.parametrize("below", ["", "exchanges/req_1", "exchanges/req_2"])
async def test_long_names_of_clients_are_cut(below: str) -> None:
    long = "W" * 100_000
    changes: dict[str, Any] = {
        **dict.fromkeys(("model", "session", "agent", "parent_agent", "client", "path"), long),
        "degradations": tuple(Degradation(long, "dropped", "top_k") for _ in range(1000)),
    }
    attempts = [Attempt(Target("gpu", long), 1000.0, None, 1001.0, "api")]
    recent = recording(ended(**changes, attempts=attempts))
    running = ended("req_2", **changes, attempts=attempts, outcome="", ended=None)
    recent.begin(running)

    _, text = await load(Ui(recent), asking(below))

    assert f"{'W' * 200}\u2026" in text
    assert "W" * 201 not in text
    assert len(text) < 100_000


@pytest.mark.parametrize("below", ["", "exchanges/req_1"])
async def test_a_name_does_not_reverse_the_text_after_it(below: str) -> None:
    backwards = "a\u202egnp.exe"  # a browser shows `aexe.png`
    names: dict[str, Any] = dict.fromkeys(("model", "client"), backwards)

    _, text = await load(Ui(recording(ended(**names))), asking(below))

    assert "\u202e" not in text
    assert text.count(r"a\u202egnp.exe") >= 2


async def test_the_list_has_exchanges_in_flight_first() -> None:
    recent = recording(*(ended(f"req_{number}") for number in range(3)))
    recent.begin(Exchange(id="req_9", model="claude-new"))

    _, text = await load(Ui(recent), asking())

    assert re.findall(r'id="e-(req_\d)"', text) == ["req_9", "req_2", "req_1", "req_0"]
    assert "3 in memory" in text


async def test_an_exchange_shows_its_stages_attempts_and_changes() -> None:
    _, text = await load(Ui(recording(ended())), asking("exchanges/req_1"))

    words = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    for part in (
        "total 3.00 s queue 125 ms first token 1.00 s longest gap 2.00 s",
        "prompt 400 cached 75% output 11 tokens/s 5.0",
        "300 of 400 from the cache",
        "2 parts, 1 stall of 2 s or more",
        "authenticate 0 ms 125 ms 3.00 s",
        "gpu coder overloaded \u2013 250 ms \u2013 \u2013",
        "spare small ended 250 ms 2.50 s 400 11",
        "fallback sent the request again after overloaded from gpu",
        "top_k dropped",
        "session session-1 sub-agent agent-1",
    ):
        assert part in words
    assert 'data-gaps="[[1.0, 1.0], [3.0, 2.0]]"' in text


async def test_only_a_stream_has_tokens_per_second_and_gaps() -> None:
    for stream in (True, False):
        recent = recording(ended(stream=stream))

        _, text = await load(Ui(recent), asking("exchanges/req_1"))

        assert ("<dt>tokens/s</dt>" in text) == ("data-gaps" in text) == stream


async def test_an_exchange_in_flight_is_asked_for_again_until_it_ends() -> None:
    recent = recording(ended())
    recent.begin(Exchange(id="req_9"))

    _, running = await load(Ui(recent), asking("exchanges/req_9"))
    _, done = await load(Ui(recent), asking("exchanges/req_1"))

    assert "hx-trigger" in running
    assert "hx-trigger" not in done


async def test_backends_show_their_queue() -> None:
    gpu = backend(max_concurrent_calls=1)
    assert gpu.queue is not None
    for _ in range(3):
        await gpu.queue.enter(QueuedCall(("key-1", ""), short=False), max_queued=2)

    _, text = await load(Ui(backends={"gpu": gpu}), asking())

    words = " ".join(re.sub(r"<[^>]*>", " ", text).split())
    assert "1 of 1 0 2" in words


async def test_prompts_and_responses_are_escaped_and_only_shown_where_kept() -> None:
    for bodies in (True, False):
        recent, exchange = RecentExchanges(bodies=bodies), Exchange(id="req_1")
        recent.begin(exchange)
        events = (
            MessageStart("m", "m", Usage(), MessagesRequest("m", (PROMPT,), 10), exchange),
            BlockStart(0, {"type": "text", "text": ""}),
            BlockDelta(0, "text_delta", f"response {SCRIPT}"),
        )
        for function in exchange.on_stream_event:
            for event in events:
                function(event)
        exchange.outcome = "client_disconnected"
        for end in exchange.on_end:
            end(exchange)

        _, text = await load(Ui(recent), asking("exchanges/req_1"))

        assert SCRIPT not in text
        assert ("prompt &lt;script&gt;" in text) == bodies
        assert ("response &lt;script&gt;" in text) == bodies
        assert parsed(text).blocked == []


@pytest.mark.parametrize("bodies", [True, False])
async def test_a_failed_request_shows_its_prompt_and_error_where_kept(bodies: bool) -> None:
    recent, exchange = RecentExchanges(bodies=bodies), Exchange(id="req_1")
    recent.begin(exchange)
    for function in exchange.on_request:
        function(MessagesRequest("m", (PROMPT,), 10))
    exchange.error, exchange.message, exchange.outcome = "api_error", "backend: …", "error"
    exchange.full_message = f"backend: {SCRIPT} refused Bearer 1234567890"
    exchange.on_end[0](exchange)

    _, text = await load(Ui(recent), asking("exchanges/req_1"))

    assert SCRIPT not in text
    assert ("prompt &lt;script&gt;" in text) == bodies
    assert ("&lt;/script&gt; refused Bearer [redacted]" in text) == bodies
    assert ("backend: …" in text) != bodies
    assert "1234567890" not in text


async def test_an_estimated_prompt_has_no_cached_share() -> None:
    for usage, shown in (
        (Usage(100, 1), "100 0%"),
        (Usage(100, 1, estimated=True), "~ 100 \u2013"),
        (Usage(100, 1, cache_read_input_tokens=100, estimated=True), "~ 200 50%"),
    ):
        recent = recording(ended())
        exchange = Exchange(id="req_9")
        exchange.usage = usage
        recent.begin(exchange)

        _, text = await load(Ui(recent), asking())

        words = " ".join(re.sub(r"<[^>]*>", " ", text).replace("~", "~ ").split())
        assert shown in words


async def test_the_row_of_an_ended_exchange_is_rendered_once() -> None:
    stage = Ui(recording(*(ended(f"req_{number}") for number in range(50))))
    ended_row.cache_clear()

    await load(stage, asking())
    stage.recent.begin(Exchange(id="req_x"))
    stage.recent.running["req_x"].on_end[0](stage.recent.running["req_x"])
    await load(stage, asking())

    assert ended_row.cache_info().misses == 31


async def test_the_first_request_compiles_all_templates_before_it_renders() -> None:
    for cached in (rendering._compiled, rendering._templates):
        cached.cache_clear()

    await load(Ui(), asking("static/page.css"))

    templates = rendering._templates()
    assert templates.cache is not None
    assert len(templates.cache) == len(templates.list_templates())


async def test_usage_is_json_in_the_words_of_the_command(tmp_path: Path) -> None:
    usage = UsageRecord()
    usage.locate(str(tmp_path), {})
    with pytest.raises(NotFoundError, match="no usage record"):
        await load(Ui(usage=usage), asking("usage.json"))
    database = Database(usage.path)
    database.write([row(int(time.time() * 1000) // DAY, key=f"key-{n}") for n in range(60)])
    database.close()

    start, text = await load(Ui(usage=usage), asking("usage.json", "by=key&days=1"))
    page = json.loads((await load(Ui(usage=usage), asking("usage.json", "by=key&page=1")))[1])

    assert start.headers["content-type"] == "application/json"
    lines = json.loads(text)
    assert len(lines) == 60
    assert len(page) == 10
    assert [lines[0][name] for name in ("requests", "attempts", "unpriced_attempts")] == [1, 1, 1]
    assert set(lines[0]) == set(line_fields(("key",), Line(("",), Sums(), None, 0)))
