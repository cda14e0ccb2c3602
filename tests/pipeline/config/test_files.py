"""Files that a config names: `${file:PATH}`, and entries of a section."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pipeline.config.files import FileError, Files, contents
from pipeline.config.problems import ConfigError
from proxy.config import read

A, B = "a" * 64, "b" * 64
TEXT = """\
backends:
  here: {base_url: "http://here.invalid/v1", api_key: "${file:key}"}
models: {some: {backend: here}}
keys_file: more.yaml
pipelines:
  models: {route: GET /v1/models, stages: [authenticate, list-models]}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "key").write_text("s3cret value\r\n\n")
    (tmp_path / "more.yaml").write_text(f'alice: {{sha256: "{A}"}}\n')
    (tmp_path / "pipelines.yaml").write_text(TEXT)
    return str(tmp_path / "pipelines.yaml")


def refusal(file: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(file, {})
    return caught.value.report()


def test_a_secret_has_no_line_breaks_at_its_end(file: str) -> None:
    config = read(file, {})
    assert config.sections["backends"]["here"].profile.api_key == "s3cret value"
    assert list(config.sections["keys"]) == ["alice"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff", "is not UTF-8"),
        (b"x" * 70_000, "has more than 65536 bytes"),
        ("folder", "cannot be read: it is not a file"),
        ("pipe", "cannot be read: it is not a file"),
    ],
    ids=["absent", "empty", "a line break", "not UTF-8", "large", "folder", "pipe"],
)
def test_a_secret_that_cannot_be_read_is_a_problem(
    file: str, tmp_path: Path, content: bytes | str | None, words: str
) -> None:
    path = tmp_path / "key"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir() if content == "folder" else os.mkfifo(path)
    report = refusal(file)
    assert f"pipelines.yaml:2:55: error[missing-file]: the file key {words}" in report
    assert "hint: " in report
    assert report.endswith("\n\n1 problem")


FOREIGN = {
    "passwd": "root:x:0:0:s3cret: a,b:/root:/bin/sh\nadmin:s3cret:0:0::/root:/bin/sh\n",
    "shell variables": 'export TOKEN="s3cret: x"\n',
    "private key": "-----BEGIN PRIVATE KEY-----\ns3cret\n-----END PRIVATE KEY-----\n",
    "encrypted key": "Proc-Type: s3cret\nDEK-Info: s3cret\n\ns3cret==\n",
    "password alone": "s3cret\n",
    "json": '{"token": "s3cret", "auths": {"s3cret": {"s3cret": "s3cret"}}}',
    "yaml": "users:\n  s3cret: {s3cret: 1}\n!s3cret x: &s3cret y\ns3cret:\n",
    "not YAML": "s3cret: [\ns3cret: s3cret: s3cret\n",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_no_message_shows_a_line_of_a_file_that_has_no_keys(
    file: str, tmp_path: Path, content: str
) -> None:
    (tmp_path / "more.yaml").write_text(content)
    report = refusal(file)
    assert re.search(
        r"^more\.yaml:\d+:\d+: error\[(bad-option|yaml-syntax)\]: ", report, re.MULTILINE
    )
    assert "hint: " in report
    assert "s3cret" not in report


def test_no_line_of_a_keys_file_is_quoted(file: str, tmp_path: Path) -> None:
    entry = f'alice: {{sha256: "{A}", model: x}}  # s3cret\n'
    (tmp_path / "more.yaml").write_text(f"# keys\n{entry}bob: {{models: [x]}}\n")
    place = f"more.yaml:2:{entry.index('model') + 1}"
    assert refusal(file).splitlines()[:4] == [
        f"{place}: error[unknown-option]: `alice` has no option `model`",
        "  hint: did you mean `models`?",
        "more.yaml:3:1: error[bad-option]: this is not an entry of `keys`",
        "  hint: write it as `NAME: {sha256: …}`, or correct `keys_file`",
    ]


def test_no_message_shows_a_secret(file: str, tmp_path: Path) -> None:
    (tmp_path / "pipelines.yaml").write_text(TEXT.replace("api_key:", "profile:"))
    report = refusal(file)
    assert "there is no profile `${file:key}`" in report
    assert "s3cret" not in report


def test_a_dollar_sign_escapes_and_an_unused_backend_is_a_note(file: str, tmp_path: Path) -> None:
    escaped = TEXT.replace("${file:key}", "$${file:key}")
    (tmp_path / "pipelines.yaml").write_text(escaped)
    assert read(file, {}).sections["backends"]["here"].profile.api_key == "${file:key}"
    unused = '  other: {base_url: "http://x/v1", api_key: "${file:absent}"}\n'
    (tmp_path / "pipelines.yaml").write_text(TEXT.replace("models:", f"{unused}models:", 1))
    (note,) = read(file, {}).notes
    assert (note.code, note.severity) == ("missing-file", "note")


def test_a_change_of_each_file_changes_the_digest(file: str, tmp_path: Path) -> None:
    digests = {read(file, {}).digest}
    for name, content in (("key", "other"), ("more.yaml", f'bob: {{sha256: "{B}"}}\n')):
        (tmp_path / name).write_text(content)
        digests.add(read(file, {}).digest)
    assert len(digests) == 3


def test_the_public_digest_is_that_of_the_texts_without_secrets(file: str, tmp_path: Path) -> None:
    def digest() -> str:
        return read(file, {}).public_digest

    first = digest()
    assert len(first) == 12
    (tmp_path / "key").write_text("other")
    assert digest() == first
    (tmp_path / "more.yaml").write_text(f'bob: {{sha256: "{B}"}}\n')
    assert digest() != first
    literal = TEXT.replace("${file:key}", "s3cret-1")
    (tmp_path / "pipelines.yaml").write_text(literal)
    second = digest()
    assert second not in ("", first)
    (tmp_path / "pipelines.yaml").write_text(literal.replace("s3cret-1", "s3cret-2"))
    assert digest() == second


def test_a_config_with_mistakes_names_its_files_too(file: str, tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("alice: 1\n")
    with pytest.raises(ConfigError) as caught:
        read(file, {})
    assert [path.name for path in caught.value.files] == ["key", "more.yaml"]
    assert caught.value.digest


def test_what_is_compared_later_is_what_was_read(tmp_path: Path) -> None:
    files = Files(tmp_path)
    (tmp_path / "there").write_text("text")
    (tmp_path / "folder").mkdir()
    files.text("there")
    for name in ("folder", "absent"):
        with pytest.raises(FileError):
            files.text(name)
    assert contents(files.contents) == list(files.contents.values())
