"""The section `ui`: exchanges in flight and recent ones, also after a reload."""

from __future__ import annotations

from pathlib import Path

from proxy.config import carry_over, read
from stages.exchange import Exchange
from stages.page.packing import unpack
from stages.page.recent import RecentExchanges
from stages.page.ring import OVERHEAD

CONFIG = """
models: {}
ui: {max_bytes: MAX}
pipelines: {models: {route: GET /v1/models, stages: [authenticate, list-models]}}
"""


def end(exchange: Exchange, ended: float | None = None) -> None:
    exchange.ended = exchange.received if ended is None else ended
    for function in exchange.on_end:
        function(exchange)


def test_an_exchange_is_in_flight_until_it_ends() -> None:
    recent = RecentExchanges()
    exchange = Exchange(id="req_1")

    recent.begin(exchange)
    assert exchange.stream_times == []
    assert recent.find("req_1") is exchange
    assert list(recent.newest(10)) == []

    end(exchange)
    assert recent.running == {}
    (found,) = map(unpack, recent.newest(10))
    assert found.id == "req_1"
    assert recent.find("req_1") is not None
    assert recent.find("req_2") is None


def test_of_many_exchanges_in_a_second_some_are_measured_and_kept() -> None:
    recent = RecentExchanges()
    measured = []
    for n in range(400):
        exchange = Exchange(id=f"req_{n}", received=100 + n / 200, outcome="complete")
        measured.append(recent.begin(exchange))
        end(exchange)

    assert measured[:20] == measured[200:220] == [True] * 20
    assert sum(measured) == 40
    assert [each.id for each in map(unpack, recent.newest(1000))][:20] == [
        f"req_{n}" for n in range(219, 199, -1)
    ]
    assert recent.counts["number"] == 40
    assert recent.begun_within_a_minute(now=102) == 400
    assert recent.begun_within_a_minute(now=160.5) == 200
    assert recent.begun_within_a_minute(now=500) == 0


def test_exchanges_of_each_second_in_which_some_end_are_kept() -> None:
    recent = RecentExchanges()
    exchanges = [Exchange(id=f"req_{n}", received=100, outcome="complete") for n in range(300)]
    for exchange in exchanges:
        recent.begin(exchange)
    for n, exchange in enumerate(exchanges):
        end(exchange, 101 + n / 100)

    assert recent.counts["number"] == 3 * 20


def test_exchanges_that_failed_are_always_kept() -> None:
    recent = RecentExchanges()
    for n in range(300):
        exchange = Exchange(id=f"req_{n}", received=100, outcome="error" if n % 2 else "complete")
        recent.begin(exchange)
        end(exchange)

    outcomes = [exchange.outcome for exchange in map(unpack, recent.newest(1000))]
    assert outcomes.count("error") == 150
    assert outcomes.count("complete") < 20


def test_a_reload_keeps_the_exchanges_and_changes_the_limit(tmp_path: Path) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(CONFIG.replace("MAX", "1000000"))
    config = read(str(file), {})
    old: RecentExchanges = config.sections["ui"]
    for number in range(10):
        old.begin(Exchange(id=f"req_{number}"))
        end(old.running[f"req_{number}"])
    old.begin(in_flight := Exchange(id="req_10"))
    file.write_text(CONFIG.replace("MAX", str(2 * OVERHEAD + 1000)))

    new: RecentExchanges = read(str(file), {}, carry_over(config)).sections["ui"]
    assert len(list(new.newest(100))) == 10
    new.serve((), dict)
    end(in_flight)

    kept = [exchange.id for exchange in map(unpack, new.newest(100))]
    assert kept[0] == "req_10"
    assert 1 < len(kept) < 10
    assert new.counts["bytes"] <= new.max_bytes
