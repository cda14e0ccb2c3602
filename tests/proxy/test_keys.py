"""`llm-proxy keys`, as a user types it, and the protection by the section `keys`."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.api_keys import is_open
from proxy.cli import main
from proxy.config import check_open_access, read
from proxy.cross_origin import CrossOrigin
from proxy.keys import PREFIX, KeyCommandError, _Check, _edit
from proxy.run import with_key
from stages.authenticate import Authenticate

TEXT = """\
# The config of a test.
models: {}   # none
pipelines:
  models: {route: GET /v1/models, stages: [authenticate, list-models]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipelines.yaml").write_text(TEXT)
    return tmp_path


def keys(folder: Path, *arguments: str, **environ: str) -> Result:
    file = str(folder / "pipelines.yaml")
    command = ["keys", arguments[0], "--config", file, *arguments[1:]]
    return CliRunner(env={"PROXY_API_KEY": None, **environ}).invoke(main, command)


def key_of(result: Result) -> str:
    assert result.exit_code == 0, result.output
    (key,) = result.stdout.splitlines()
    return key


def text(folder: Path, name: str = "pipelines.yaml") -> str:
    return (folder / name).read_text()


def entry(folder: Path, name: str) -> object:
    return read(str(folder / "pipelines.yaml"), {}).sections["keys"][name]


def test_a_new_key_is_printed_once_and_only_its_digest_is_stored(folder: Path) -> None:
    result = keys(folder, "new", "alice")
    key = key_of(result)
    assert key.startswith(PREFIX)
    assert len(key) == len(PREFIX) + 43  # 256 bits
    assert key not in result.stderr
    assert key not in text(folder)
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert text(folder).startswith(f'{TEXT}\nkeys:\n  alice: {{sha256: "{digest}", created: "')
    assert key_of(keys(folder, "new", "bob")) != key


def test_json_has_the_key_and_the_file(folder: Path) -> None:
    made = keys(folder, "new", "alice", "--file", "keys.yaml", "--json")
    file = str(folder / "keys.yaml")
    new = json.loads(made.stdout)
    assert new == {"name": "alice", "key": new["key"], "file": file}
    assert hashlib.sha256(new["key"].encode()).hexdigest() in text(folder, "keys.yaml")
    assert new["key"] not in made.stderr
    for options in ([], ["--delete"]):
        revoked = keys(folder, "revoke", "alice", "--json", *options)
        result = {"name": "alice", "deleted": bool(options), "file": file}
        assert json.loads(revoked.stdout) == result


def test_its_options_are_in_its_entry(folder: Path) -> None:
    result = keys(folder, "new", "ci", "--models", "a-*,b", "--models", "c", "--expires", "30d")
    assert key_of(result)
    assert "warning: `ci` may use `b`, which is not in `models`" in result.stderr
    stored = entry(folder, "ci")
    assert getattr(stored, "models", None) == ("a-*", "b", "c")
    assert not getattr(stored, "expired", True)
    (row,) = json.loads(keys(folder, "list", "--json").stdout)
    assert row["state"] == "active"
    assert row["models"] == ["a-*", "b", "c"]
    assert row["expires"].endswith("Z")


@pytest.mark.parametrize("name", ["true", "null", "1", "1e3", "2026-11-29"])
@pytest.mark.parametrize("file", [(), ("--file", "keys.yaml")], ids=["config", "keys-file"])
def test_a_name_that_yaml_could_take_for_a_value(
    name: str, file: tuple[str, ...], folder: Path
) -> None:
    key_of(keys(folder, "new", name, *file))
    key_of(keys(folder, "new", "last"))

    assert keys(folder, "revoke", name).exit_code == 0
    assert getattr(entry(folder, name), "disabled", False)
    assert keys(folder, "revoke", "--delete", name).exit_code == 0
    assert list(read(str(folder / "pipelines.yaml"), {}).sections["keys"]) == ["last"]


def test_the_mode_and_the_comments_of_the_config_stay(folder: Path) -> None:
    (folder / "pipelines.yaml").chmod(0o640)
    keys(folder, "new", "alice")
    keys(folder, "revoke", "alice")
    keys(folder, "revoke", "alice", "--delete")
    assert text(folder) == f"{TEXT}\nkeys:\n"
    assert stat.S_IMODE((folder / "pipelines.yaml").stat().st_mode) == 0o640


def test_after_the_last_key_is_deleted_the_proxy_is_not_open(folder: Path) -> None:
    keys(folder, "new", "alice")
    keys(folder, "revoke", "alice", "--delete")
    config = read(str(folder / "pipelines.yaml"), {})
    assert config.sections["keys"] == {}
    assert not is_open(config)


def test_a_new_keys_file_is_for_its_owner_alone(folder: Path) -> None:
    key = key_of(keys(folder, "new", "alice", "--file", "keys.yaml"))
    assert text(folder) == f'{TEXT}keys_file: "keys.yaml"\n'
    assert stat.S_IMODE((folder / "keys.yaml").stat().st_mode) == 0o600
    assert hashlib.sha256(key.encode()).hexdigest() in text(folder, "keys.yaml")
    (folder / "keys.yaml").write_text(f"# whose\n{text(folder, 'keys.yaml')}")
    key_of(keys(folder, "new", "bob"))
    key_of(keys(folder, "new", "carl", "--file", "keys.yaml"))
    assert list(read(str(folder / "pipelines.yaml"), {}).sections["keys"]) == [
        "alice",
        "bob",
        "carl",
    ]
    assert text(folder, "keys.yaml").startswith("# whose\nalice: ")
    assert keys(folder, "revoke", "bob").exit_code == 0
    assert text(folder, "keys.yaml").count("disabled: true") == 1
    result = keys(folder, "new", "dora", "--file", "other.yaml")
    assert (result.exit_code, "leave out --file" in result.stderr) == (1, True)
    assert not (folder / "other.yaml").exists()


def test_a_keys_file_that_is_missing_is_made(folder: Path) -> None:
    with (folder / "pipelines.yaml").open("a") as file:
        file.write("keys_file: keys.yaml\n")
    assert keys(folder, "list").stdout.startswith("no keys")
    key_of(keys(folder, "new", "alice"))
    assert "alice" in text(folder, "keys.yaml")


@pytest.mark.parametrize("file", ["pipelines.yaml", "keys.yaml"])
def test_an_entry_with_problems_is_not_passed_over(folder: Path, file: str) -> None:
    assert keys(folder, "new", "alice", "--file", "keys.yaml").exit_code == 0
    broken = "bob: {sha256: s3cret}\n"
    with (folder / file).open("a") as more:
        more.write(broken if file == "keys.yaml" else f"keys:\n  {broken}")

    listed = keys(folder, "list")
    changed = [keys(folder, command, "bob") for command in ("revoke", "new")]

    assert "alice" in listed.stdout
    hint = "type `llm-proxy check` to see them"
    assert listed.stderr == f"warning: entries with problems: 1; {hint}\n"
    for result in changed:
        assert result.exit_code == 1
        assert "the entry of `bob` has problems\n  hint: type `llm-proxy check`" in result.stderr
        assert "s3cret" not in listed.output + result.output


def test_the_list_shows_no_whole_digest(folder: Path) -> None:
    key = key_of(keys(folder, "new", "alice", "--models", "*"))
    key_of(keys(folder, "new", "bob", "--expires", "2020-01-31"))
    keys(folder, "revoke", "alice")
    with (folder / "pipelines.yaml").open("a") as file:
        file.write(f'  carl: {{sha256: "{"c" * 64}", limits: {{requests_per_minute: 5}}}}\n')
    digest = hashlib.sha256(key.encode()).hexdigest()
    for options in ((), ("--json",)):
        output = keys(folder, "list", *options).output
        assert digest[:8] in output
        assert digest[:16] not in output
    table = [line.split() for line in keys(folder, "list").stdout.splitlines()]
    assert [(line[0], line[-1]) for line in table] == [
        ("name", "state"),
        ("alice", "disabled"),
        ("bob", "expired"),
        ("carl", "active"),
    ]
    assert table[3][3:5] == ["requests_per_minute:", "5"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("new", "alice"), 1, "choose another name"),
        (("revoke", "alic"), 1, "did you mean `alice`?"),
        (("revoke", "alic", "--delete"), 1, "there is no key `alic`"),
        (("new", "a b"), 2, "use 1 to 64 of the characters a-z"),
        (("new", "key-7"), 2, "use 1 to 64 of the characters a-z"),
        (("new", "bob", "--expires", "soon"), 2, "write it as 2027-01-31"),
        (("new",), 2, "Missing argument 'NAME'"),
        (("new", "bob", "--file", "no/such/keys.yaml"), 1, "make its folder"),
    ],
)
def test_a_mistake_changes_nothing(
    folder: Path, arguments: tuple[str, ...], status: int, words: str
) -> None:
    keys(folder, "new", "alice")
    before = text(folder)
    result = keys(folder, *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert words in result.stderr
    assert text(folder) == before
    assert [path.name for path in folder.iterdir()] == ["pipelines.yaml"]


def test_a_config_with_errors_is_not_changed(
    folder: Path,
) -> None:
    config = folder / "pipelines.yaml"
    secret = 'backends: {b: {base_url: "http://b/v1", api_key: "${OF_THE_SERVICE}"}}\n'
    config.write_text(secret + TEXT.replace("models: {}", "models: {m: {backend: b}}"))
    key_of(keys(folder, "new", "alice"))
    config.write_text(text(folder) + "sever: 1\n")
    before = text(folder)
    result = keys(folder, "new", "bob")
    assert result.exit_code == 1
    assert "is unchanged" in result.stderr
    assert "did you mean `server`?" in result.stderr
    assert text(folder) == before


@pytest.mark.parametrize("folder", [".", "absent"])
def test_without_a_config_the_next_step_is_shown(tmp_path: Path, folder: str) -> None:
    for arguments in (("list",), ("new", "alice"), ("revoke", "alice")):
        result = keys(tmp_path / folder, *arguments)
        assert result.exit_code == 1
        assert "llm-proxy init" in result.stderr


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["a folder", "not UTF-8"])
def test_a_file_that_cannot_become_the_keys_file_is_reported(
    folder: Path, content: bytes | None
) -> None:
    file, before = folder / "keys.yaml", text(folder)
    file.write_bytes(content) if content else file.mkdir()
    result = keys(folder, "new", "alice", "--file", "keys.yaml")
    assert result.exit_code == 1
    assert "keys.yaml" in result.stderr
    assert "hint: " in result.stderr
    assert text(folder) == before


@pytest.mark.parametrize("command", ["new", "list", "revoke"])
@pytest.mark.parametrize("content", ["s3cret\n", "s3cret: [\n", "s3cret: {a: b}\n"])
def test_no_command_shows_a_line_of_a_file_that_has_no_keys(
    folder: Path, command: str, content: str
) -> None:
    (folder / "pipelines.yaml").write_text(f"keys_file: k.yaml\n{TEXT}")
    (folder / "k.yaml").write_text(content)
    result = keys(folder, command, *([] if command == "list" else ["alice"]))
    assert result.stderr
    assert "s3cret" not in result.output
    assert text(folder, "k.yaml") == content


def test_a_new_keys_file_with_broken_yaml_is_reported_with_its_place(folder: Path) -> None:
    (folder / "k.yaml").write_text("alice: [\n")
    result = keys(folder, "new", "bob", "--file", "k.yaml")
    assert (result.exit_code, "k.yaml:2:1" in result.stderr) == (1, True)
    assert text(folder, "k.yaml") == "alice: [\n"


@pytest.mark.parametrize("command", ["new", "list", "revoke"])
@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["a folder", "not UTF-8"])
def test_a_keys_file_that_cannot_be_read_is_reported(
    folder: Path, command: str, content: bytes | None
) -> None:
    (folder / "pipelines.yaml").write_text(f"keys_file: k.yaml\n{TEXT}")
    path = folder / "k.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    result = keys(folder, command, *([] if command == "list" else ["alice"]))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "the file k.yaml" in result.stderr
    assert "hint:" in result.stderr


def test_commands_at_the_same_time_lose_no_key(folder: Path) -> None:
    command = [sys.executable, "-m", "llm_proxy", "keys", "new", "--config", "pipelines.yaml"]
    running = [
        subprocess.Popen(
            [*command, name], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for name in ("a", "b", "c")
    ]
    printed = {process.communicate()[0] for process in running}
    assert len(printed) == 3
    assert set(read(str(folder / "pipelines.yaml"), {}).sections["keys"]) == {"a", "b", "c"}


def test_an_edit_during_the_command_is_not_lost(folder: Path) -> None:
    path = folder / "pipelines.yaml"

    def edit(text: str) -> str:
        path.write_text(f"{text}# edited\n")
        return f"{text}# by the command\n"

    with pytest.raises(KeyCommandError, match="has changed in the meantime"):
        _edit(path, _Check(str(path)), edit)
    assert text(folder) == f"{TEXT}# edited\n"


@pytest.mark.parametrize(
    ("section", "open_"),
    [("", True), ("keys:\n", False), (f'keys: {{a: {{sha256: "{"a" * 64}"}}}}\n', False)],
    ids=["absent", "empty", "a key"],
)
def test_a_section_protects_as_a_key_does(folder: Path, section: str, open_: bool) -> None:
    file = folder / "pipelines.yaml"
    file.write_text(TEXT + section)
    config = read(str(file), {})
    assert is_open(config) is open_
    assert CrossOrigin.of(config, "127.0.0.1").refuse_pages is open_
    if not open_:
        check_open_access(config, "0.0.0.0")


def test_explain_needs_no_key_of_the_section(folder: Path) -> None:
    keys(folder, "new", "alice")
    (folder / "body.json").write_text("{}")
    arguments = ["explain", "--config", str(folder / "pipelines.yaml"), "--pipeline", "models"]
    result = CliRunner().invoke(main, [*arguments, str(folder / "body.json")])
    assert "authentication_error" not in result.output
    assert "list-models" in result.output


@pytest.mark.parametrize("command", [(), ("new",), ("list",), ("revoke",)])
def test_each_help_has_an_example(command: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, ["keys", *command, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert "llm-proxy keys " in result.output


def test_run_accepts_its_own_key_alone(folder: Path) -> None:
    keys(folder, "new", "alice")
    config = with_key(read(str(folder / "pipelines.yaml"), {}), "own")
    (stage,) = [s for s in config.pipelines[0].stages if isinstance(s, Authenticate)]
    assert (stage.keys, stage.named) == (("own",), None)
