"""What `check` reports about limits."""

from __future__ import annotations

from collections.abc import Awaitable
from pathlib import Path

import pytest
from attrs import frozen

from pipeline import Send, Stage
from pipeline.config.problems import ConfigError
from pipeline.config.schema import Config
from proxy.config import carry_over, read
from stages.events import Resolved, Validated

PRICED = "{base_url: 'http://x.invalid/v1', price: {input: 1, output: 2}}"
TEXT = """\
server: {{workers: {workers}}}
backends:
  free: {{profile: ollama}}
  paid: {paid}
models:
  {models}
limits:
  {limits}
pipelines:
  messages:
    route: POST /v1/messages
    stages: [authenticate, validate, {stages}, translate-in, invoke, translate-out, stream-encode]
"""


@frozen
class OwnResolve(Stage[Validated, Resolved]):
    """It may take any name. The tests only build it."""

    def handle(self, event: Validated, forward: Send[Resolved]) -> Awaitable[None]:
        raise AssertionError("no test sends a request")


def config(
    folder: Path,
    limits: str,
    models: str = "claude-*: {backend: paid}",
    stages: str = "resolve, limit, fallback",
    workers: int = 1,
    paid: str = PRICED,
) -> Config:
    file = folder / "pipelines.yaml"
    text = TEXT.format(models=models, limits=limits, stages=stages, workers=workers, paid=paid)
    file.write_text(text)
    return read(str(file), {})


def errors(folder: Path, limits: str, **changes: str) -> str:
    with pytest.raises(ConfigError) as raised:
        config(folder, limits, **changes)  # type: ignore[arg-type]
    return raised.value.report()


def codes(made: Config) -> list[str]:
    return [f"{note.location.line} {note.severity} {note.code}" for note in made.notes]


def test_row_r5_a_budget_needs_a_price_of_each_target(tmp_path: Path) -> None:
    report = errors(tmp_path, "all: {cost_per_day: 5}", models="claude-*: {backend: free}")

    assert "pipelines.yaml:8:9: error[price-missing]: `cost_per_day` needs prices" in report
    assert "these targets have none: `free`" in report
    assert "hint: add `price: {input: …, output: …}` to the backend" in report


@pytest.mark.parametrize("account", ["all", "keys", "sessions", "agents"])
def test_row_r5_for_each_kind_of_account(account: str, tmp_path: Path) -> None:
    models = "claude-*: {targets: [{backend: paid}, {backend: free, model: m}]}"
    report = errors(tmp_path, f"{account}: {{cost_per_month: 5}}", models=models)

    assert "these targets have none: `free/m`" in report


@pytest.mark.parametrize(
    ("pattern", "refused"),
    [
        ("claude-*", True),
        ("claude-haiku", True),
        ("claude-*-haiku", True),
        ('"*"', True),
        ("other", False),
        ("claude", False),
        ("'cl[a-b]de-2'", True),
    ],
)
def test_row_r5_of_models_only_those_that_match(
    pattern: str, refused: bool, tmp_path: Path
) -> None:
    limits = f"models: {{{pattern}: {{cost_per_day: 5}}}}"
    models = "{other: {backend: paid}, 'claude-*': {backend: free}}"
    if refused:
        assert "have none: `free`" in errors(tmp_path, limits, models=models)
    else:
        config(tmp_path, limits, models=models)


@pytest.mark.parametrize(
    ("allowed", "refused"),
    [("", True), ("other", False), ("'o*', claude-opus", True), ("'*'", True)],
)
def test_row_r5_of_a_key_only_the_models_that_it_may_use(
    allowed: str, refused: bool, tmp_path: Path
) -> None:
    may_use = f"models: [{allowed}], " if allowed else ""
    key = f"{{sha256: {'a' * 64}, {may_use}limits: {{cost_per_day: 5}}}}"
    limits = f"{{}}\nkeys: {{alice: {key}}}"
    models = "{other: {backend: paid}, 'claude-*': {backend: free}}"
    if refused:
        assert "have none: `free`" in errors(tmp_path, limits, models=models)
    else:
        config(tmp_path, limits, models=models)


def test_row_r5_a_default_may_have_any_name(tmp_path: Path) -> None:
    models = "{other: {backend: paid}, last: {backend: free}}"
    report = errors(
        tmp_path,
        "models: {other: {cost_per_day: 5}}",
        models=models,
        stages="resolve: {default: last}, limit",
    )
    assert "have none: `free`" in report


def test_row_r5_a_price_of_the_future_is_none(tmp_path: Path) -> None:
    paid = "{base_url: 'http://x.invalid/v1', price: {input: 1, since: '2999-01-01'}}"

    assert "have none: `paid`" in errors(tmp_path, "all: {cost_per_day: 5}", paid=paid)


def test_a_price_of_the_model_is_enough(tmp_path: Path) -> None:
    models = "claude-*: {backend: free, overrides: {price: {gpu_hour: 0}}}"

    assert not config(tmp_path, "all: {cost_per_day: 5}", models=models).notes


def test_limits_without_a_price_need_none(tmp_path: Path) -> None:
    models = "claude-*: {backend: free}"

    assert not config(tmp_path, "all: {requests_per_day: 5}", models=models).notes


def test_limits_in_a_pipeline_without_limit_are_reported(tmp_path: Path) -> None:
    made = config(tmp_path, "keys: {requests_per_day: 5}", stages="resolve")

    assert codes(made) == ["12 warning limits-unused"]
    assert not config(tmp_path, "keys: {}", stages="resolve").notes


def test_row_r13_workers_of_one_machine_share_limits(tmp_path: Path) -> None:
    assert not config(tmp_path, "keys: {requests_per_day: 5}", workers=4).notes


def test_a_limit_that_counts_each_repeat_is_reported(tmp_path: Path) -> None:
    limits = "keys: {requests_per_day: 5}"

    assert codes(config(tmp_path, limits, stages="resolve, fallback, limit")) == [
        "12 warning limit-repeated"
    ]
    assert not config(tmp_path, limits, stages="resolve, limit, retry").notes


@pytest.mark.parametrize(
    ("pattern", "stages", "hint"),
    [
        ("claud-*", "resolve, limit", "hint: did you mean `claude-*`?"),
        ("gpt-4", "resolve, limit", "hint: use one of: `claude-*`"),
        ("claude-opus", "resolve, limit", ""),
        ("gpt-4", "resolve: {default: claude-*}, limit", ""),
        ("gpt-4", "tests.proxy.test_limit_rules:OwnResolve, limit", ""),
        ("gpt-4", "resolve: {rules: [{when: {images: true}, to: claude-*}]}, limit", ""),
    ],
)
def test_limits_of_a_name_that_is_not_served_are_reported(
    pattern: str, stages: str, hint: str, tmp_path: Path
) -> None:
    made = config(tmp_path, f"models: {{'{pattern}': {{requests_per_day: 5}}}}", stages=stages)

    assert codes(made) == (["8 warning unknown-model"] if hint else [])
    assert not hint or hint in made.notes[0].render(made.file, made.masked_source)


def test_a_timeout_without_a_limit_of_concurrency_is_reported(tmp_path: Path) -> None:
    made = config(tmp_path, "keys: {requests_per_day: 5, concurrency_timeout: 3}")

    assert codes(made) == ["8 warning option-unused"]


WARM = "queue: {warm_turns: 5, warm_seconds: 9, hold_seconds: 0}"
SWAPS = f"{PRICED[:-1]}, max_concurrent_calls: 1, swaps_models: true}}"


@pytest.mark.parametrize(
    ("queue", "paid", "unused"),
    [
        (WARM, PRICED, ["`hold_seconds`", "`warm_seconds`", "`warm_turns`"]),
        (WARM.replace("warm_turns: 5", "warm_turns: 1"), PRICED, []),
        ("queue", SWAPS, ["`swaps_models`"]),
        ("queue", SWAPS.replace("true", "false"), []),
    ],
)
def test_options_that_have_no_effect_with_a_store_are_reported(
    queue: str, paid: str, unused: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "pipelines.yaml"

    def reported(store: str) -> list[str]:
        text = TEXT.format(
            models="claude-*: {backend: paid}", limits="{}", stages="resolve", workers=1, paid=paid
        )
        file.write_text(text.replace("translate-in,", f"translate-in, {queue},") + store)
        notes = read(str(file), {}).notes
        return sorted(note.message.split()[0] for note in notes if note.code == "option-unused")

    assert reported("") == []
    assert reported("store: 'redis://localhost'") == unused


def test_a_limit_before_resolve_does_not_fit(tmp_path: Path) -> None:
    report = errors(tmp_path, "all: {requests_per_day: 5}", stages="limit, resolve")

    assert "error[chain-order]: stage `limit` accepts Resolved" in report
    assert "hint: move `resolve`" in report


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ("all: {requests_per_minut: 5}", "did you mean `requests_per_minute`?"),
        ("all: {requests_per_minute: 0}", "`requests_per_minute` must be > 0"),
        ("all: {requests_per_minute: 1" + "0" * 400 + "}", "`requests_per_minute` must be <= "),
        ("all: {concurrent_requests: 1" + "0" * 400 + "}", "`concurrent_requests` must be <= "),
        ("all: {cost_per_day: 1.0e+200}", "`cost_per_day` must be <= "),
        ("all: {requests_per_minute: 1.5}", "expected a whole number"),
        ("all: {concurrency_timeout: -1}", "`concurrency_timeout` must be >= 0"),
        ("models: {a: 5}", "expected a mapping"),
        ("all: {active: 5}", "has no option `active`"),
    ],
)
def test_mistakes_are_reported(limits: str, message: str, tmp_path: Path) -> None:
    assert message in errors(tmp_path, limits)


def test_a_reload_keeps_the_counts(tmp_path: Path) -> None:
    running = config(tmp_path, "all: {requests_per_day: 5}")
    reloaded = read(running.file, {}, carry_over(running))

    assert reloaded.sections["limits"].store is running.sections["limits"].store
    assert reloaded.sections["limits"] is not running.sections["limits"]
