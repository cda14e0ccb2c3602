"""The section `store`, as `check` and a reload see it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config.installer import install_command
from pipeline.config.problems import ConfigError
from pipeline.config.schema import Config
from proxy.config import carry_over, read
from stages.limits.memory import MemoryStore
from stages.limits.redis_store import RedisStore
from stages.limits.share_store import ShareStore

TEXT = """\
server: {{workers: {workers}}}
{store}
backends:
  local: {{profile: ollama}}
models:
  "*": {{backend: local}}
limits:
  all: {{requests_per_minute: 10}}
pipelines:
  messages:
    route: POST /v1/messages
    stages:
      [authenticate, validate, resolve, limit, translate-in, invoke, translate-out, stream-encode]
"""
URL = "valkey://:s3cret@cache.example:6400/2"


def config(folder: Path, store: str, workers: int = 1) -> Config:
    file = folder / "pipelines.yaml"
    file.write_text(TEXT.format(store=store, workers=workers))
    return read(str(file), {})


@pytest.mark.parametrize(
    "store", [f"store: '{URL}'", f"store: {{url: '{URL}'}}"], ids=["short", "long"]
)
def test_a_store_is_a_url_or_a_mapping(store: str, tmp_path: Path) -> None:
    made = config(tmp_path, store, workers=4)
    limits, section = made.sections["limits"].store, made.sections["store"]

    assert isinstance(limits, RedisStore)
    assert limits.connection is section.connection
    assert (section.on_loss, section.timeout, section.lease) == ("local", 0.05, 60)
    assert section.connection.name == "valkey://cache.example:6400/2"
    assert "s3cret" not in made.masked_source + repr(section) + repr(limits)
    [note] = [note for note in made.notes if note.code == "limits-shared"]
    assert (note.location.line, note.severity) == (2, "note")
    assert (
        "slots and circuit breakers are shared with all processes that use valkey://cache.example:6400/2"
        in note.message
    )
    assert not any(note.code == "limits-per-worker" for note in made.notes)


def test_without_a_store_each_process_counts(tmp_path: Path) -> None:
    made = config(tmp_path, "")
    assert isinstance(made.sections["limits"].store, MemoryStore)
    assert made.sections["store"].is_up is None


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://localhost",
        "redis://",
        "redis://s3cret@host/name",
        "redis://host:0",
        "redis://host:port",
        "redis://host/0?ssl_cert_reqs=none",
        "redis://[s3cret/0",
    ],
)
def test_a_url_that_cannot_be_used_is_reported_without_it(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        config(tmp_path, f"store: '{url}'")
    report = raised.value.report()
    assert "pipelines.yaml:2:8: error[bad-option]: `store` is not the URL" in report
    assert "hint: write it as `valkey://127.0.0.1:6379/0`" in report
    assert "s3cret" not in report


def test_an_unknown_policy_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="on_loss"):
        config(tmp_path, "store: {url: 'redis://localhost', on_loss: block}")


@pytest.mark.parametrize(
    ("option", "least", "less"), [("lease", "2", "1.9"), ("timeout", "0.01", "0.009")]
)
def test_a_duration_that_no_process_can_keep_is_reported(
    option: str, least: str, less: str, tmp_path: Path
) -> None:
    assert config(tmp_path, f"store: {{url: 'redis://localhost', {option}: {least}}}")
    with pytest.raises(ConfigError) as raised:
        config(tmp_path, f"store: {{url: 'redis://localhost', {option}: {less}}}")
    assert f"error[bad-option]: `{option}` must be >= {least}: {less}" in raised.value.report()


def test_approximate_limits_take_shares_of_the_store(tmp_path: Path) -> None:
    made = config(tmp_path, "store: {url: 'redis://localhost', mode: approximate, max_error: 0.2}")
    limits = made.sections["limits"].store

    assert isinstance(limits, ShareStore)
    assert isinstance(limits.store, RedisStore)
    assert (limits.max_error, limits.processes(), limits.lease) == (0.2, 1, 60)


def test_approximate_without_a_store_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        config(tmp_path, "store: {mode: approximate}")
    report = raised.value.report()
    assert "`store.mode: approximate` has no effect without a store" in report
    assert "pipelines.yaml:2:15: error[bad-option]" in report
    assert "hint: set `store.url`, or remove `mode`" in report


def test_a_reload_keeps_the_store(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    running = config(tmp_path, "store: redis://one")
    file = tmp_path / "pipelines.yaml"
    file.write_text(TEXT.format(store="store: {url: redis://two, lease: 9}", workers=1))
    reloaded = read(str(file), {}, adapt=carry_over(running))

    assert reloaded.sections["store"] is running.sections["store"]
    assert reloaded.sections["limits"].store is running.sections["limits"].store
    assert caplog.messages == [
        "`store.url` has changed: restart the proxy to apply it",
        "`store.lease` has changed: restart the proxy to apply it",
    ]


def test_without_its_package_the_report_has_the_command() -> None:
    """llm-proxy is on no registry, so `pip install 'llm-proxy[shared]'` would not install it."""
    code = """
import sys
sys.modules["coredis"] = None
from pipeline.config.options import OptionError
from stages.shared_store.section import Store
try:
    Store("redis://localhost")
except OptionError as error:
    print(error, error.hint)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "`coredis`" in ended.stdout, ended.stderr
    assert f"type `{install_command()} 'coredis>=6'`" in ended.stdout
