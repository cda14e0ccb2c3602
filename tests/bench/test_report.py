"""What `just bench` says of what it measured."""

from __future__ import annotations

from xml.etree import ElementTree

from tests.bench.plot import plot
from tests.bench.report import table

MEASURED = {
    "floor": {"requests": 5000.0, "request_us": 190.0, "delta_us_200": 50.0, "rest_mb": 40.0},
    "llm-proxy": {"requests": 2000.0, "delta_us_200": 75.0, "check_s": 0.5},
    "a <peer>": {"requests": 25.0},
}


def rows() -> dict[str, str]:
    return {line[:30].strip(): line[30:] for line in table(MEASURED).splitlines()}


def test_figures_are_next_to_the_floor() -> None:
    assert "5,000" in rows()["short answers per second"]
    assert "2,000 (0.40 x)" in rows()["short answers per second"]
    assert "25 (0.01 x)" in rows()["short answers per second"]


def test_each_goal_is_reached_or_not_or_unknown() -> None:
    ends = {title: row.split("  ")[-1].strip() for title, row in rows().items()}
    assert ends["short answers per second"] == "reached"
    assert ends["200 streams of 50 tokens/s: CP"] == "NOT REACHED"
    assert ends["memory at rest, MB"] == "not measured"


def test_a_missing_measurement_is_left_out() -> None:
    assert not any("1.5 MB" in title for title in rows())


def test_the_plot_is_a_picture_of_all() -> None:
    texts = [each.text for each in ElementTree.fromstring(plot(MEASURED, "here")).iter()]
    assert {"floor", "llm-proxy", "a <peer>", "190", "50.0", "75.0", "-"} <= set(texts)
