"""Prices: from YAML, by day, and the cost of tokens and time."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from pipeline import ConfigError
from proxy.config import read
from stages.profiles.price import Price, price_on
from stages.usage.report import configured_prices
from stages.usage.rows import Sums
from tests.cases import for_each

USED = Sums(
    total_ms=1_800_000,
    input_tokens=2_000_000,
    cache_read_tokens=1_000_000,
    cache_write_tokens=500_000,
    output_tokens=100_000,
)


@for_each(
    ("price", "cost"),
    [
        (Price(input=3, output=15), 6 + 3 + 1.5 + 1.5),
        (Price(input=3, cache_read=0.3, cache_write=3.75, output=15), 6 + 0.3 + 1.875 + 1.5),
        (Price(input=3, cache_read=0, output=15), 6 + 0 + 1.5 + 1.5),
        (Price(gpu_hour=1.2), 0.6),
        (Price(input=1, gpu_hour=1.2), 2 + 1 + 0.5 + 0.6),
    ],
)
def test_tokens_are_per_million_and_time_per_hour(price: Price, cost: float) -> None:
    assert price.cost(USED) == pytest.approx(cost)


def test_the_latest_price_of_the_day_counts() -> None:
    old, new = Price(input=3), Price(input=2, since="2026-11-01")

    assert price_on([new, old], date(2026, 10, 31)) is old
    assert price_on([old, new], date(2026, 11, 1)) is new
    assert price_on([new], date(2026, 10, 31)) is None
    assert price_on([], date(2026, 10, 31)) is None


TEXT = """
backends:
  gpu:
    base_url: "http://gpu/v1"
    price: {{gpu_hour: 1.2}}
    models: {{"q*": {{price: {{input: 2}}}}}}
  cloud: {{base_url: "http://cloud/v1"}}
models:
  "*": {{backend: gpu}}
  other: {{backend: cloud, model: maker/other, overrides: {{price: {price}}}}}
pipelines:
  models: {{route: GET /v1/models, stages: [authenticate, list-models]}}
"""


def write(folder: Path, price: str) -> str:
    file = folder / "pipelines.yaml"
    file.write_text(TEXT.format(price=price))
    return str(file)


def test_a_backend_a_pattern_or_a_model_has_a_price(tmp_path: Path) -> None:
    price = "[{input: 3, output: 15}, {input: 2, output: 10, since: 2026-11-01}]"
    config = read(write(tmp_path, price), {})

    prices = configured_prices(config.sections["backends"], config.sections["models"])

    assert prices("gpu", "llama") == (Price(gpu_hour=1.2),)
    assert prices("gpu", "qwen3") == (Price(input=2),)
    assert prices("cloud", "maker/other") == (
        Price(input=3, output=15),
        Price(input=2, output=10, since="2026-11-01"),
    )
    assert prices("cloud", "maker/more") == ()
    assert prices("removed", "any") == ()


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ("{}", "the price is empty"),
        ("{since: 2026-11-01}", "the price is empty"),
        ("{input: 1, since: November}", "`since` is not a date"),
        ("{input: 1, since: '20261101'}", "`since` is not a date"),
        ("{input: -1}", "must be >= 0"),
        ("{inputs: 1}", "no option `inputs`"),
        ("[{input: 1}, {input: 2}]", "the same `since`"),
        ("3", "a mapping"),
    ],
)
def test_check_reports_a_wrong_price_at_its_line(price: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(write(tmp_path, price), {})

    assert words in str(caught.value)
    assert "pipelines.yaml:10:" in str(caught.value)
