"""Parts that a reload keeps, and when the file is read again."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from pipeline.config.problems import ConfigError
from pipeline.config.schema import Config
from proxy.app import App
from proxy.config import carry_over, read
from proxy.reload import Reload
from stages.messages_api.part_cache import PARTS
from stages.translation.conversation_cache import CONVERSATIONS

TEXT = """\
backends:
  one: {base_url: "http://one.invalid/v1"}
  two: {base_url: "http://two.invalid/v1"}
models:
  some: {backend: one}
pipelines:
  models:
    route: GET /v1/models
    stages: [authenticate, list-models]
"""


def write(folder: Path, text: str = TEXT) -> str:
    file = folder / "pipelines.yaml"
    file.write_text(text)
    return str(file)


def remove(config: Config) -> None:
    """Remove its file."""
    Path(config.file).unlink()


def test_unchanged_backends_and_the_counters_are_kept(tmp_path: Path) -> None:
    before = read(write(tmp_path), {})

    changed = TEXT.replace("two.invalid", "new.invalid").replace("some:", "other:")
    now = read(write(tmp_path, changed), {}, carry_over(before))

    old, new = before.sections["backends"], now.sections["backends"]
    assert new["one"] is old["one"]
    assert new["two"] is not old["two"]
    assert new["two"].profile.base_url == "http://new.invalid/v1"
    assert now.sections["metrics"] is before.sections["metrics"]
    (listing,) = [stage for stage in now.pipelines[0].stages if hasattr(stage, "backends")]
    assert listing.backends is new


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        (("max_concurrent_calls: 1", "max_concurrent_calls: 2"), True),
        (("max_concurrent_calls: 1", "max_concurrent_calls: 1, api_key: new"), True),
        (("one.invalid", "new.invalid"), False),
        ((", max_concurrent_calls: 1", ""), False),
    ],
    ids=str,
)
def test_a_changed_backend_counts_the_calls_of_the_old_one(
    change: tuple[str, str], shared: bool, tmp_path: Path
) -> None:
    text = TEXT.replace('one.invalid/v1"', 'one.invalid/v1", max_concurrent_calls: 1')
    before = read(write(tmp_path, text), {})
    now = read(write(tmp_path, text.replace(*change)), {}, carry_over(before))

    old, new = (each.sections["backends"]["one"] for each in (before, now))
    assert new is not old
    assert (new.queue is old.queue) is shared
    assert old.queue.slots == 1, "until the new one is served"


TARGETS = """\
models:
  some: {targets: [{backend: one, model: a}, {backend: two}]}
"""


@pytest.mark.parametrize(
    ("change", "states"),
    [
        (("", ""), {"one/a": "open", "two": "open"}),
        (("two.invalid", "new.invalid"), {"one/a": "open"}),
        (("model: a", "model: b"), {"two": "open"}),
        (("pipelines:", "circuit_breaker: {cooldown: 31}\npipelines:"), {}),
    ],
    ids=["none", "a backend", "a model", "the limits"],
)
def test_the_breakers_of_unchanged_targets_are_kept(
    change: tuple[str, str], states: dict[str, str], tmp_path: Path
) -> None:
    text = TEXT.replace("models:\n  some: {backend: one}\n", TARGETS)
    before = read(write(tmp_path, text), {})
    for label in ("one/a", "two"):
        breaker = before.sections["circuit_breaker"].get(label)
        for _ in range(3):
            breaker.attempt(5).failed(5)

    now = read(write(tmp_path, text.replace(*change)), {}, carry_over(before))

    assert now.sections["circuit_breaker"].states(6) == states
    assert before.sections["circuit_breaker"].states(6) == {"one/a": "open", "two": "open"}


def test_a_broken_section_is_reported_as_at_the_start(tmp_path: Path) -> None:
    before = read(write(tmp_path), {})
    broken = write(tmp_path, TEXT.replace('{base_url: "http://one.invalid/v1"}', "[]"))

    with pytest.raises(ConfigError) as alone:
        read(broken, {})
    with pytest.raises(ConfigError) as again:
        read(broken, {}, carry_over(before))

    assert again.value.report() == alone.value.report()


async def test_a_change_is_read_once_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = read(write(tmp_path), {})
    send, receive = anyio.create_memory_object_stream[Config](10)
    with anyio.fail_after(30):
        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(Reload(first, "127.0.0.1", interval=0.02).run, send.send_nowait)
            write(tmp_path, TEXT.replace("some:", "other:"))
            found = await receive.receive()
            assert list(found.sections["models"]) == ["other"]
            remove(first)
            while "file-absent" not in caplog.text:
                await anyio.lowlevel.checkpoint()
            write(tmp_path)
            found = await receive.receive()
            assert list(found.sections["models"]) == ["some"]
            group.cancel_scope.cancel()
    assert "not reloaded, the running config stays:" in caplog.text
    assert receive.statistics().current_buffer_used == 0


@pytest.mark.parametrize("changed", ["pipelines.yaml", ".env"])
async def test_a_change_before_anything_is_watched_is_seen(tmp_path: Path, changed: str) -> None:
    file = write(tmp_path, TEXT.replace("one.invalid", "${ONE:-one.invalid}"))
    first = read(file, {})
    with (tmp_path / changed).open("a") as more:
        more.write("\nONE=new.invalid" if changed == ".env" else "\nserver: {drain_timeout: 7}")
    send, receive = anyio.create_memory_object_stream[Config](10)
    with anyio.fail_after(30):
        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(Reload(first, "127.0.0.1").run, send.send_nowait)
            found = await receive.receive()
            group.cancel_scope.cancel()
    assert found.digest != first.digest


async def test_row_a1_some_options_of_the_server_need_no_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = read(write(tmp_path), {})
    origins = 'allowed_hosts: [llm.example], allowed_origins: ["https://app.example"]'
    cache = "conversation_cache_bytes: 7"
    write(tmp_path, f"{TEXT}server: {{drain_timeout: 7, {cache}, {origins}}}\n")
    send, receive = anyio.create_memory_object_stream[Config](10)
    with anyio.fail_after(30):
        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(Reload(first, "127.0.0.1", interval=0.02).run, send.send_nowait)
            await receive.receive()
            group.cancel_scope.cancel()
    assert "`server.drain_timeout` has changed" in caplog.text
    assert "server.allowed_" not in caplog.text
    assert "server.conversation_cache_bytes" not in caplog.text


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_size_of_the_cache_is_that_of_the_served_config(tmp_path: Path) -> None:
    first = read(write(tmp_path), {})
    now = read(write(tmp_path, f"{TEXT}server: {{conversation_cache_bytes: 800}}\n"), {})
    async with anyio.create_task_group() as group:
        App(first).serve(group, now)
        group.cancel_scope.cancel()
    sizes = PARTS.max_bytes, CONVERSATIONS.max_bytes
    for cache in (PARTS, CONVERSATIONS):
        cache.resize(0)
    assert sizes == (500, 300)


async def test_each_file_that_the_config_names_is_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also a file that is missing, and that an invalid config names."""
    secret, keys = tmp_path / "secret", tmp_path / "keys.yaml"
    secret.write_text("one")
    named = TEXT.replace("one.invalid", "${file:secret}.invalid")
    first = read(write(tmp_path, named), {})
    send, receive = anyio.create_memory_object_stream[Config](10)
    with anyio.fail_after(30):
        async with send, receive, anyio.create_task_group() as group:
            group.start_soon(Reload(first, "127.0.0.1", interval=0.02).run, send.send_nowait)
            secret.write_text("new")
            changed = await receive.receive()
            assert changed.sections["backends"]["one"].profile.base_url == "http://new.invalid/v1"
            write(tmp_path, f"{named}keys_file: keys.yaml\n")
            while "error[missing-file]" not in caplog.text:
                await anyio.lowlevel.checkpoint()
            for name in ("alice", "bob"):
                keys.write_text(f'{name}: {{sha256: "{"a" * 64}"}}')
                changed = await receive.receive()
                assert list(changed.sections["keys"]) == [name]
            group.cancel_scope.cancel()
    assert caplog.text.count("error[missing-file]") == 1
    assert receive.statistics().current_buffer_used == 0
