"""`check --fix` on real files: it renames options, and changes nothing else."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli import main

BEFORE = """\
# What this is.
server: {min_body_rate: 500, 'max_bodies_bytes': 9_000_000}   # "both" are old

backends:
  a: &a {profile: ollama, "slots": 2, schema_without: [$schema]}   # slots: two
  same: *a
  c:
      base_url:   "${HOST:-http://slots/v1}"   # indented by six
      ? strict_needs_all
      : true

      api_key: 'x'
      models: {"x*": {repeats_prefill: true, tools_with_calls: true}}
models:
  slots: {policy: balance, targets: [{backend: a}, {backend: c, overrides: {user_after_tool: no1}}]}
pipelines:
  one:
    route: POST /x
    stages:
    - authenticate
    - validate: {body: "messages"}
    - resolve: {routes: [{when: {thinking: true}, to: slots}]}
    - retry: {max_wait: 5}
    - fallback
    - translate-in
    - extract-reasoning: {begins_inside: true}
    - queue: {max_wait: 5, max_waiting: 3, short_tokens: 1}   # max_wait
    - invoke
    - translate-out
    - stream-encode
""".replace("no1", "false")
AFTER = (
    BEFORE.replace("min_body_rate:", "min_body_bytes_per_second:")
    .replace("'max_bodies_bytes'", "'max_buffered_body_bytes'")
    .replace('"slots"', '"max_concurrent_calls"')
    .replace("schema_without:", "unsupported_schema_keywords:")
    .replace("strict_needs_all", "strict_needs_closed_schema")
    .replace("repeats_prefill", "echoes_prefill")
    .replace("tools_with_calls", "needs_tools_with_history")
    .replace("policy:", "strategy:")
    .replace("user_after_tool", "allows_user_after_tool")
    .replace("{body:", "{endpoint:")
    .replace("routes:", "rules:")
    .replace("begins_inside", "starts_inside")
    .replace("queue: {max_wait:", "queue: {queue_timeout:")
    .replace("max_waiting:", "max_queued:")
    .replace("short_tokens", "short_call_tokens")
)
SHORT = """\
backends: {a: {profile: ollama, slots: 2}}
models: {some: {backend: a}}
pipelines:
  one: {route: GET /one, stages: [authenticate, list-models]}
"""


def check(file: Path, *options: str) -> Result:
    environ = {"PROXY_API_KEY": None, "LLM_PROXY_CONFIG": None}
    return CliRunner(env=environ).invoke(main, ["check", "--config", str(file), *options])


def config(folder: Path, text: str = SHORT) -> Path:
    file = folder / "pipelines.yaml"
    file.write_bytes(text.encode())
    return file


def test_old_names_work_with_a_warning_each(tmp_path: Path) -> None:
    result = check(config(tmp_path, BEFORE))

    assert result.exit_code == 0
    assert result.stderr.count("warning[renamed-option]") == 15
    place = f"{tmp_path}/pipelines.yaml:5:27: warning[renamed-option]: "
    assert f"{place}`slots` is now called `max_concurrent_calls`\n" in result.stderr
    assert "hint: write `max_concurrent_calls`, or let `llm-proxy check --fix`" in result.stderr


def test_fix_renames_the_options_and_nothing_else(tmp_path: Path) -> None:
    file = config(tmp_path, BEFORE)

    result = check(file, "--fix")

    assert (result.exit_code, result.stderr) == (0, "")
    assert file.read_text() == AFTER
    assert result.stdout.splitlines()[:2] == [
        f"{file}:2:10: renamed `min_body_rate` to `min_body_bytes_per_second`",
        f"{file}:2:30: renamed `max_bodies_bytes` to `max_buffered_body_bytes`",
    ]
    assert result.stdout.count(": renamed `") == 15
    assert result.stdout.endswith(f"{file} is in order\n")


def test_fix_does_not_change_a_file_without_old_names(tmp_path: Path) -> None:
    file = config(tmp_path, AFTER)
    before = file.stat()

    result = check(file, "--fix")

    assert (result.exit_code, "renamed" in result.output) == (0, False)
    assert file.stat() == before


def test_fix_keeps_line_ends_and_the_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeff" + BEFORE.replace("\n", "\r\n")
    file = config(tmp_path, text)

    assert check(file, "--fix").exit_code == 0
    assert file.read_bytes().decode() == "\ufeff" + AFTER.replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (("slots: 2", "slots: two"), "expected a whole number, got the text 'two'"),
        (("slots: 2", "slots: 2, max_concurrent_calls: 3"), "`slots` is the old name of"),
        (("slots: 2}", "slots: 2"), "this is not valid YAML"),
        (("backend: a", "backend: b"), "there is no entry `b`"),
        (("backends:", "server: {host: 0.0.0.0}\nbackends:"), "has no key, so anybody"),
    ],
    ids=["wrong-value", "both-names", "syntax", "elsewhere", "open-access"],
)
def test_a_file_with_errors_is_unchanged(
    tmp_path: Path, edit: tuple[str, str], message: str
) -> None:
    text = SHORT.replace(*edit)
    file = config(tmp_path, text)

    result = check(file, "--fix")

    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert file.read_text() == text


def test_a_file_that_would_have_errors_is_unchanged(tmp_path: Path) -> None:
    """One mapping for two stages, of which only one has renamed the option."""
    chain = (
        "validate, resolve, retry: &wait {max_wait: 5}, translate-in, queue: *wait, invoke, "
        "translate-out, stream-encode"
    )
    text = SHORT.replace("list-models", chain).replace("slots", "max_concurrent_calls")
    file = config(tmp_path, text)

    result = check(file, "--fix")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "is unchanged, because after the change it would have errors" in result.stderr
    assert "`retry` has no option `queue_timeout`" in result.stderr
    assert file.read_text() == text


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = config(tmp_path / "real")
    link = tmp_path / "pipelines.yaml"
    link.symlink_to(real)

    assert check(link, "--fix").exit_code == 0
    assert link.is_symlink()
    assert real.read_text() == SHORT.replace("slots", "max_concurrent_calls")


def test_the_permissions_stay_and_no_other_file_is_left(tmp_path: Path) -> None:
    file = config(tmp_path)
    file.chmod(0o640)

    assert check(file, "--fix").exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_may_not_be_written_is_unchanged(tmp_path: Path) -> None:
    file = config(tmp_path)
    file.chmod(0o440)

    result = check(file, "--fix")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"Error: {file} cannot be written: Permission denied\n"
        "  hint: make the file and its folder writable, and repeat the command\n"
    )
    assert file.read_text() == SHORT
    assert list(tmp_path.iterdir()) == [file]


def test_on_a_full_disk_the_file_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    file = config(tmp_path)
    monkeypatch.setattr(os, "fsync", full)

    result = check(file, "--fix")

    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [file])
    assert "No space left on device\n  hint: free some space on its disk, and" in result.stderr


def test_an_unknown_flag_is_an_error_of_usage(tmp_path: Path) -> None:
    assert check(config(tmp_path), "--fixx").exit_code == 2


def test_an_absent_file_is_reported_as_by_check(tmp_path: Path) -> None:
    file = tmp_path / "absent.yaml"

    fixed, checked = check(file, "--fix"), check(file)

    assert (fixed.exit_code, fixed.output) == (1, checked.output)


def test_places_in_a_renamed_option_are_those_in_the_file(tmp_path: Path) -> None:
    text = SHORT.replace("list-models", "resolve: {routes: [{when: {thinking: 5}, to: some}]}")
    file = config(tmp_path, text)

    result = check(file)

    column = text.splitlines()[3].index("5}") + 1
    assert f"{file}:4:{column}: error[bad-option]: `rules[0].when.thinking`: " in result.stderr
