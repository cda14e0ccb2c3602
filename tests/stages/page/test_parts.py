"""The parts of several workers in the page, merged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st

from stages.events import Authenticated
from stages.exchange import Attempt, Degradation, Exchange
from stages.page.packing import unpack
from stages.page.parts import (
    LISTED,
    NOT_FOUND,
    Part,
    Responses,
    list_part,
    merged,
    part_of,
    respond,
)
from stages.page.recent import RecentExchanges
from stages.ui import Ui
from tests.cases import for_each
from tests.stages.page.exchanges import GPU, ended
from tests.stages.test_ui import asking, load, recording


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def ids(rows: list[tuple[float, Any]]) -> list[str]:
    return [unpack(bytes(data)).id for _, data in rows]


def received(recent: RecentExchanges, before: float | None = None) -> Part:
    """The part of a worker in another one."""
    return list_part(respond(recent, {}, None, before))


@define
class Others:
    """The other workers, in this process. `missing` did not respond."""

    workers: tuple[RecentExchanges, ...]
    missing: tuple[int, ...] = ()
    configured: int = 3
    asked: int = 0

    async def __call__(self, exchange: str | None, before: float | None) -> Responses:
        self.asked += 1
        parts = (respond(recent, {}, exchange, before) for recent in self.workers)
        with_exchange = tuple(part for part in parts if part != NOT_FOUND)
        return Responses(self.configured, 1 + len(self.workers), self.missing, with_exchange)


def stage(own: RecentExchanges, others: Others) -> Ui:
    own.ask = others
    return Ui(own)


def test_figures_of_workers_add_up() -> None:
    now = Exchange().received
    failed = ended("req_2", now, error="api_error", outcome="error")
    workers = [recording(ended("req_1", now)), recording(failed, ended("req_3", now))]
    workers[1].begin(ended("req_4", now, ended=None, outcome=""))

    part = merged([part_of(workers[0], {}, None), received(workers[1])])

    messages = part.pipelines["messages"]
    assert (len(messages.times), messages.running) == (3, 1)
    assert messages.rate == pytest.approx(4 / 60)
    assert [error for _, error in messages.failures] == ["api_error"]
    assert part.stages["messages/authenticate"].times == pytest.approx([0.125] * 3)
    spare = part.backends["spare"]
    assert (spare.cached_tokens, spare.prompt_tokens) == (900, 1200)
    assert len(part.backends["gpu"].failures) == 3
    assert ids(part.running) == ["req_4"]
    assert part.number == 3


def long_names(length: int) -> dict[str, Any]:
    """Fields of an exchange whose client chose long names."""
    name = "\U0001f600" * length
    return {
        **dict.fromkeys(("model", "session", "agent", "client"), name),
        "degradations": (Degradation(name, "dropped", "x"),) * 400,
    }


LARGE = long_names(300)
HUGE = long_names(1_000)
WORKERS = st.lists(
    st.lists(st.sampled_from(["small", "large"]), max_size=90), min_size=1, max_size=4
)


@given(WORKERS, st.randoms(use_true_random=False))
def test_the_pages_of_the_list_have_each_exchange_once(
    workers: list[list[str]], random: Any
) -> None:
    number = sum(map(len, workers))
    times = iter(random.sample(range(1000, 1000 + number), number))
    made = []
    for exchanges in workers:
        order = sorted(next(times) for _ in exchanges)
        made.append(
            recording(
                *(
                    ended(f"req_{at}", at - 3.0, **(LARGE if size == "large" else {}))
                    for at, size in zip(order, exchanges, strict=True)
                )
            )
        )

    pages = list(_pages(made))

    expected = [f"req_{at}" for at in range(1000 + number - 1, 999, -1)]
    assert [id for page in pages for id in page] == expected
    assert all(1 <= len(page) <= LISTED for page in pages) or not number


def _pages(workers: list[RecentExchanges]) -> Iterator[list[str]]:
    before = None
    while True:
        part = merged([received(recent, before) for recent in workers])
        yield ids(part.ended)
        if not part.older:
            return
        before = part.ended[-1][0]


def test_a_part_is_small_also_with_long_names() -> None:
    attempts = [Attempt(GPU, 1000.0, None, 1001.0, "overloaded")] * 400
    exchanges = (ended(f"req_{n}", **HUGE, attempts=attempts) for n in range(40))
    recent = recording(*exchanges)
    for n in range(40):
        recent.begin(ended(f"running_{n}", **HUGE, attempts=attempts, ended=None, outcome=""))

    data = respond(recent, {}, None, None)

    assert len(data) < 250_000
    assert list_part(data).older


@pytest.mark.parametrize("bodies", [True, False])
async def test_an_exchange_of_another_worker_has_its_texts_where_kept(bodies: bool) -> None:
    other = RecentExchanges(bodies=True)
    exchange = ended("req_7", outcome="error", error="api_error")
    other.begin(exchange)
    exchange.full_message = "the backend's words"
    for end in exchange.on_end:
        end(exchange)
    others = Others((RecentExchanges(), other))

    start, text = await load(
        stage(RecentExchanges(bodies=bodies), others), asking("exchanges/req_7")
    )

    assert start.status == 200
    assert "authenticate" in text
    assert others.asked == 1
    assert ("the backend&#39;s words" in text) == bodies


async def test_an_exchange_in_flight_in_another_worker_is_followed() -> None:
    other = RecentExchanges()
    other.begin(ended("req_7", ended=None, outcome=""))

    _, text = await load(stage(RecentExchanges(), Others((other,))), asking("exchanges/req_7"))

    assert "hx-trigger" in text


async def test_exchanges_in_flight_are_in_the_order_of_their_begin() -> None:
    workers = [RecentExchanges(), RecentExchanges()]
    for n in range(40):
        workers[n % 2].begin(ended(f"req_{n}", 1000.0 + n, ended=None, outcome=""))

    _, text = await load(stage(workers[0], Others((workers[1],))), asking())

    assert re.findall(r'id="e-(req_\d+)"', text) == [f"req_{n}" for n in range(39, 9, -1)]


async def test_an_empty_id_is_that_of_no_exchange() -> None:
    start, _ = await load(stage(recording(ended()), Others((recording(),))), asking("exchanges/"))

    assert start.status == 404


async def test_an_own_exchange_asks_nobody() -> None:
    others = Others(())

    await load(stage(recording(ended()), others), asking("exchanges/req_1"))

    assert others.asked == 0


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ((), "1 of 3 workers responded. 2 of them are not connected to the supervisor"),
        ((77,), "No response in time: process 77. 1 of them is"),
        ((77, 78), "No response in time: process 77, 78."),
    ],
)
async def test_the_page_names_the_workers_that_are_missing(
    missing: tuple[int, ...], words: str
) -> None:
    made = stage(recording(ended()), Others((), missing))

    for below in ("", "exchanges/req_2"):
        _, text = await load(made, asking(below))

        assert words in " ".join(text.replace("<b>", "").replace("</b>", "").split())


async def test_the_page_of_all_workers_has_no_note() -> None:
    others = Others((recording(ended("req_2")), RecentExchanges()))
    made = stage(recording(ended()), others)

    _, text = await load(made, asking())
    missing, of_missing = await load(made, asking("exchanges/req_9"))

    assert "responded" not in text + of_missing
    assert "2 in memory of 3 workers" in text
    assert missing.status == 404
    assert others.asked == 2


@for_each("before", ["x", "nan", "inf", "-inf", "1e999", "\u0661"])
async def test_any_time_in_the_query_is_accepted(before: str) -> None:
    event: Authenticated = asking(query=f"before={before}")

    start, _ = await load(stage(recording(ended()), Others((recording(ended("req_2")),))), event)

    assert start.status == 200
