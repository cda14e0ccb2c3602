"""Rates and latencies of pipelines, and the state of backends."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.config import read
from stages.exchange import Exchange
from stages.messages_api.usage import Usage
from stages.page.overview import (
    MOST,
    BackendView,
    Figures,
    Latency,
    PipelineView,
    Window,
    backend_figures,
    backend_views,
    pipeline_figures,
    pipeline_views,
    stage_figures,
)
from stages.page.recent import RecentExchanges
from tests.stages.page.exchanges import ended

CONFIG = """
backends:
  gpu: {base_url: "http://user:s3cret@127.0.0.1:1/v1", max_concurrent_calls: 2}
  spare: {base_url: "http://127.0.0.1:2/v1"}
  unused: {base_url: "http://127.0.0.1:3/v1"}
models:
  claude-test: {targets: [{backend: gpu, model: coder}, {backend: spare, model: small}]}
pipelines:
  messages:
    route: POST /v1/messages
    stages: [authenticate, validate, resolve, translate-in, invoke, translate-out, stream-encode]
  models: {route: GET /v1/models, stages: [authenticate, list-models]}
"""


@pytest.fixture
def config(tmp_path: Path) -> object:
    file = tmp_path / "pipelines.yaml"
    file.write_text(CONFIG)
    return read(str(file), {})


def test_the_window_is_the_last_minute() -> None:
    newest = [ended(received=1000.0 - n * 10) for n in range(20)]

    window = Window.of(newest, now=1003.0, total=0)

    assert len(window.exchanges) == 7
    assert window.rate == 1 / 60


def test_rates_count_all_requests_and_latencies_a_sample() -> None:
    newest = [ended(received=1000.0 - n / 10) for n in range(MOST)]

    window = Window.of(newest, now=1003.0, total=6000)

    assert window.rate * MOST == 100


def test_a_latency_has_its_rate_median_and_p95() -> None:
    assert Latency.of(Figures(rate=5)) == Latency(0, 0, None, None)
    hundred = [float(n) for n in range(100)]
    assert Latency.of(Figures([(0.25, hundred)], rate=2)) == Latency(100, 2, 50, 95)


def test_latencies_count_all_requests_of_unequal_workers_alike() -> None:
    busy, idle = [ended(f"req_{n}", stages=[], ended=1001.0) for n in range(90)], [ended()] * 90
    now, total = 1004.0, 90_000

    figures = [
        pipeline_figures(Window.of(busy, now, total), []),
        pipeline_figures(Window.of(idle, now, 90), []),
    ]
    latency = Latency.of(figures[0]["messages"] + figures[1]["messages"])

    assert latency.rate == pytest.approx(90_090 / 60)
    assert (latency.number, latency.median, latency.p95) == (180, 1.0, 1.0)


def test_cached_shares_count_all_requests_of_unequal_workers_alike(config: object) -> None:
    backends = config.sections["backends"]  # type: ignore[attr-defined]
    cold = [ended(usage=Usage(100, 1)) for _ in range(90)]
    windows = Window.of(cold, 1004.0, 900), Window.of([ended()] * 90, 1004.0, 90)

    one, other = (backend_figures(backends, window)["spare"] for window in windows)

    (_, spare, _) = backend_views(backends, {}, {}, {}, {"spare": one + other})
    assert spare.cached == pytest.approx(90 * 300 / (90 * 400 + 900 * 100))


def views_of_pipelines(
    config: object, window: Window, running: list[Exchange]
) -> list[PipelineView]:
    recent = RecentExchanges()
    recent.serve(config.pipelines, dict)  # type: ignore[attr-defined]
    figures = pipeline_figures(window, running)
    stages = stage_figures(window, figures)
    return list(pipeline_views(recent.pipelines, recent.drawings, figures, stages))


def test_each_stage_of_each_pipeline_has_its_time(config: object) -> None:
    exchanges = [ended(), ended(outcome="error", error="api_error")]
    window = Window.of(exchanges, now=1004.0, total=2)

    messages, models = views_of_pipelines(config, window, [ended(ended=None)])

    assert (messages.name, messages.routes) == ("messages", ("POST /v1/messages",))
    assert (messages.time.number, messages.time.median) == (2, 3)
    assert (messages.running, messages.errors) == (1, 1)
    times = {stage.drawn.name: stage.time.median for stage in messages.stages}
    assert times == {
        "authenticate": 0.125,
        **dict.fromkeys(["validate", "resolve", "translate-in", "invoke"]),
        **dict.fromkeys(["translate-out", "stream-encode"]),
    }
    assert messages.stages[0].drawn.after == ("Authenticated",)
    assert (models.time.number, models.running) == (0, 0)


def test_each_backend_has_its_state(config: object) -> None:
    sections = config.sections  # type: ignore[attr-defined]
    gpu = sections["backends"]["gpu"].queue
    for name in ("one", "two", "three"):
        gpu.calls.enter(name, ("key-1", ""), short=True)
    window = Window.of([ended()], now=1004.0, total=1)

    views = backend_views(
        sections["backends"],
        sections["models"],
        {"gpu": "it does not respond", "spare": ""},
        {"gpu/coder": "open", "spare/small": "closed"},
        backend_figures(sections["backends"], window),
    )

    first, spare, unused = views
    assert (first.name, first.url, first.error) == (
        "gpu",
        "http://127.0.0.1:1/v1",
        "it does not respond",
    )
    assert (first.slots, first.running, first.free, first.waiting) == (2, 2, 0, 1)
    assert first.breakers == (("gpu/coder", "open"),)
    assert (spare.error, spare.slots, spare.cached) == ("", None, 0.75)
    assert (spare.first_token.number, spare.first_token.median) == (1, 1)
    assert (unused.error, unused.breakers, unused.cached) == (None, (), None)
    assert [(view.failed, view.last_error) for view in views_of_failures(config)] == [
        (2, "overloaded"),
        (0, ""),
        (0, ""),
    ]


def views_of_failures(config: object) -> list[BackendView]:
    """The backends after two requests that failed at `gpu` before `spare` responded."""
    sections = config.sections  # type: ignore[attr-defined]
    window = Window.of([ended(), ended()], now=1004.0, total=2)
    figures = backend_figures(sections["backends"], window)
    return list(backend_views(sections["backends"], sections["models"], {}, {}, figures))


def test_the_rate_of_a_stage_is_estimated_from_measured_exchanges(config: object) -> None:
    window = Window.of([ended(), ended(stages=[]), ended(stages=[])], now=1004.0, total=6)

    messages, _ = views_of_pipelines(config, window, [])

    assert messages.stages[0].time.rate == pytest.approx(6 / 60)
    assert messages.stages[0].time.number == 1
