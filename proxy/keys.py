"""`llm-proxy keys`: makes, lists and revokes the keys of clients, in the config or `keys_file`.

A command edits the text of the file, checks the whole config with it, and then replaces the file.
Commands at the same time wait for each other. If an editor saves the file in between, the command
changes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
from attrs import Factory, define, frozen

from pipeline.config.builder import Builder
from pipeline.config.document import Document
from pipeline.config.edit import EditError, add_entry, remove_entry, replace_scalar
from pipeline.config.files import FileError, Files
from pipeline.config.fix import FixError, rewrite
from pipeline.config.load import folder_of, read_texts, variables_of
from pipeline.config.parsing import parse
from pipeline.config.problems import ConfigError, Problem, suggest
from proxy.config import read
from proxy.probe.report import scalar
from stages.keys.config import NAME, RESERVED_NAME, Key

PREFIX = "sk-llmproxy-"
_SECTION, _OPTION = "keys", "keys_file"
#: Problems of this shell's environment: the proxy may have another one.
_OF_ENVIRONMENT = {"missing-variable", "missing-file"}


class KeyCommandError(Exception):
    """The command cannot do its work. No file was changed. The message ends with a hint."""


@define
class _Check:
    """Loads a config with a changed text of one file. `source` replaces the text of the config."""

    config: str
    source: str | None = None
    notes: tuple[Problem, ...] = ()

    def __call__(self, path: Path, text: str) -> Any:
        """Check as if `text` were in `path`. Raises ConfigError."""
        in_config = path == Path(self.config).resolve()
        source = text if in_config else self.source
        replaced = {} if in_config else {path: text}
        try:
            self.notes = read(self.config, source=source, replaced=replaced).notes
        except ConfigError as error:
            errors = {p.code for p in error.problems if p.severity == "error"}
            if errors - _OF_ENVIRONMENT:
                raise


@frozen
class Stored:
    """A key, and the mapping of the config or of `keys_file` that has its entry."""

    key: Key
    file: Path
    section: tuple[str, ...]


@frozen
class Keys:
    """The files of a config that may have keys, and the keys in them.

    `keys_file` is what the config names; empty: nothing.
    """

    config: str
    keys_file: str
    keys: dict[str, Stored] = Factory(dict)
    broken: set[str] = Factory(set)
    """The names of entries with problems."""

    @property
    def path(self) -> Path:
        """The path of `keys_file`."""
        return Path(folder_of(self.config)) / self.keys_file


def load(config: str) -> Keys:
    """Find the keys, in a config that may have problems. Raises ConfigError, KeyCommandError."""
    source, variables = read_texts(config)
    environ = {**variables_of(variables), **os.environ}
    document = _valid(config, parse(source, environ))
    root = document.value if isinstance(document.value, dict) else {}
    keys_file = root.get(_OPTION) or ""
    path = Path(config).resolve()
    result = Keys(config, str(keys_file))
    _add_stored(result, document, root.get(_SECTION), path, (_SECTION,))
    if keys_file:
        _read_keys_file(result, environ)
    return result


def _load_for_change(config: str, name: str) -> Keys:
    """Find the keys. Raises KeyCommandError also if the entry `name` has problems."""
    keys = load(config)
    if name in keys.broken:
        raise KeyCommandError(
            f"the entry of `{name}` has problems\n  hint: type `llm-proxy check` to see them"
        )
    return keys


def _read_keys_file(keys: Keys, environ: Mapping[str, str]) -> None:
    """Add the keys of `keys_file`; none if it does not exist: `keys new` makes it."""
    try:
        text = Files(keys.path.parent).text(keys.path.name)
    except FileError as error:
        if not keys.path.exists():
            return
        raise KeyCommandError(f"{error}\n  hint: {error.hint}") from error
    document = _valid(keys.keys_file, parse(text, environ, root=(_SECTION,)), is_quoted=False)
    if document.value is not None and not isinstance(document.value, dict):
        hint = "type `llm-proxy check`, and correct the file or `keys_file`"
        raise KeyCommandError(f"the file {keys.keys_file} has no keys\n  hint: {hint}")
    _add_stored(keys, document, document.value, keys.path, ())


def _valid(file: str, document: Document, is_quoted: bool = True) -> Document:
    if errors := [p for p in document.problems if p.code == "yaml-syntax"]:
        raise ConfigError(file, document.masked_text() if is_quoted else "", errors)
    return document


def _add_stored(
    keys: Keys, document: Document, value: Any, file: Path, section: tuple[str, ...]
) -> None:
    entries = value if isinstance(value, dict) else {}
    built = Builder(document).build_entries(entries, Key, (_SECTION,))
    keys.keys.update({name: Stored(key, file, section) for name, key in built.items()})
    keys.broken.update(map(str, entries.keys() - built.keys()))


def new(
    config: str, name: str, models: tuple[str, ...], expires: str | None, file: str | None
) -> tuple[str, Path, list[Problem]]:
    """Make a key, and store its digest. Give the key, the file, and warnings about the key.

    `file` becomes the `keys_file` of a config that has none. Raises KeyCommandError, ConfigError.
    """
    with _locked(config):
        keys = _load_for_change(config, name)
        if name in keys.keys:
            raise KeyCommandError(
                f"there is a key `{name}` already\n  hint: choose another name, or type "
                f"`llm-proxy keys revoke --delete {name}` first"
            )
        if file and keys.keys_file and keys.path != Path(folder_of(config)) / file:
            raise KeyCommandError(
                f"the config has `{_OPTION}: {keys.keys_file}`\n  hint: leave out --file"
            )
        key = PREFIX + secrets.token_urlsafe(32)
        entry = _entry(key, models, expires)
        check = _Check(config)
        if not file or keys.keys_file:
            target = _store(keys, name, entry, check)
        else:
            keys = attrs.evolve(keys, keys_file=file)
            _read_keys_file(keys, os.environ)  # reports a file that cannot be read
            path, names_file = Path(config).resolve(), _add((), _OPTION, json.dumps(file))
            check.source = _apply(names_file, path, path.read_bytes().decode())
            target = _store(keys, name, entry, check)
            _edit(path, check, names_file)
    return key, target, [p for p in check.notes if f"`{name}`" in p.message]


def revoke(config: str, name: str, delete: bool) -> Path:
    """Disable or delete a key. Give its file. Raises KeyCommandError, ConfigError."""
    with _locked(config):
        keys = _load_for_change(config, name)
        stored = keys.keys.get(name)
        if stored is None:
            hint = suggest(name, keys.keys) or "`llm-proxy keys new NAME` makes one"
            raise KeyCommandError(f"there is no key `{name}`\n  hint: {hint}")
        _edit(stored.file, _Check(config), _revoked((*stored.section, name), delete))
    return stored.file


def check_name(name: str) -> bool:
    """Whether a key may have this name."""
    return bool(NAME.fullmatch(name)) and not RESERVED_NAME.fullmatch(name)


def _entry(key: str, models: tuple[str, ...], expires: str | None) -> str:
    fields: dict[str, Any] = {"sha256": hashlib.sha256(key.encode()).hexdigest()}
    if models:
        fields["models"] = list(models)
    if expires:
        fields["expires"] = expires
    fields["created"] = f"{datetime.now(UTC):%Y-%m-%d}"
    values = (f"{k}: {json.dumps(value, ensure_ascii=False)}" for k, value in fields.items())
    return f"{{{', '.join(values)}}}"


def _store(keys: Keys, name: str, entry: str, check: _Check) -> Path:
    """Add an entry to `keys_file`, otherwise to the config. Give the file."""
    if not keys.keys_file:
        path = Path(keys.config).resolve()
        _edit(path, check, _add((_SECTION,), scalar(name), entry))
        return path
    if keys.path.exists():
        _edit(keys.path, check, _add((), scalar(name), entry))
    else:
        _create(keys.path, f"{scalar(name)}: {entry}\n", check)
    return keys.path


def _add(path: tuple[str, ...], name: str, entry: str) -> Callable[[str], str]:
    return lambda text: add_entry(text, path, name, entry)


def _revoked(path: tuple[str, ...], delete: bool) -> Callable[[str], str]:
    def edit(text: str) -> str:
        if delete:
            return remove_entry(text, path)
        try:
            return replace_scalar(text, (*path, "disabled"), "true")
        except EditError:  # the entry does not have it
            return add_entry(text, path, "disabled", "true")

    return edit


def _edit(path: Path, check: _Check, edit: Callable[[str], str]) -> None:
    """Replace a file by its edited text, after `check`, unless the file changes meanwhile."""
    before = path.read_bytes()

    def check_and_compare(text: str | None) -> Any:
        result = check(path, text or "")
        if path.read_bytes() != before:
            raise KeyCommandError(f"{path} has changed in the meantime\n  hint: try again")
        return result

    try:
        rewrite(str(path), _apply(edit, path, before.decode()), check_and_compare)
    except FixError as error:
        raise KeyCommandError(str(error)) from error


def _apply(edit: Callable[[str], str], path: Path, text: str) -> str:
    try:
        return edit(text)
    except EditError as error:
        hint = "change the file by hand: `sha256` of a key is `printf %s KEY | sha256sum`"
        raise KeyCommandError(f"{path}: {error}\n  hint: {hint}") from error


def _create(path: Path, text: str, check: _Check) -> None:
    """Write a new file that only this user can read."""
    check(path, text)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        reason = f"{error.strerror}\n  hint: make its folder, or name another file"
        raise KeyCommandError(f"{path} cannot be written: {reason}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


@contextmanager
def _locked(config: str) -> Iterator[None]:
    """Wait for the other commands that change keys of this config.

    Raises ConfigError, KeyCommandError.
    """
    try:
        descriptor = os.open(folder_of(config), os.O_RDONLY)
    except OSError as error:
        load(config)  # reports why the config cannot be read
        raise KeyCommandError(f"{folder_of(config)} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
