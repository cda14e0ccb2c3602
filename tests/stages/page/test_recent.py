"""The section `ui`: exchanges in flight and recent ones, also after a reload."""

from __future__ import annotations

from pathlib import Path

from proxy.config import carry_over, read
from stages.exchange import Exchange
from stages.page.recent import RecentExchanges
from stages.page.ring import OVERHEAD

CONFIG = """
models: {}
ui: {max_bytes: MAX}
pipelines: {models: {route: GET /v1/models, stages: [authenticate, list-models]}}
"""


def end(exchange: Exchange) -> None:
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
    (found,) = recent.newest(10)
    assert found.id == "req_1"
    assert recent.find("req_1") is not None
    assert recent.find("req_2") is None


def test_only_some_exchanges_of_a_second_are_measured() -> None:
    recent = RecentExchanges()

    measured = [recent.measures(Exchange(received=100 + n / 200)) for n in range(400)]

    assert measured[:20] == measured[200:220] == [True] * 20
    assert sum(measured) == 40


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

    kept = [exchange.id for exchange in new.newest(100)]
    assert kept[0] == "req_10"
    assert 1 < len(kept) < 10
    assert new.counts["bytes"] <= new.max_bytes
