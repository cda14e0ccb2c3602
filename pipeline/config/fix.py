"""Rewrites old names of options in a config file, and nothing else in the file.

The names are replaced at their places in the text. A YAML library would write the whole file,
with its own spaces, quotes and line lengths.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from pipeline.config.problems import ConfigError, Problem
from pipeline.config.schema import Config

LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")  # as the YAML parser counts lines


class FixError(Exception):
    """The file cannot be rewritten. It is unchanged."""


def fix_file(file: str, check: Callable[[str | None], Config]) -> list[Problem]:
    """Replace the old names of options in `file`. Give the problems that this repairs.

    `check` loads a text as if it were in `file`; for None it loads `file`. A symbolic link stays a
    link. Raises ConfigError if the file has errors, and FixError if it cannot be written or if
    the new text has errors.
    """
    config = check(None)
    path = Path(file).resolve()
    text = path.read_bytes().decode()
    new, repaired = with_new_names(text, config.notes)
    if not repaired:
        return []
    rewrite(file, new, check)
    return repaired


def rewrite(file: str, new: str, check: Callable[[str | None], Config]) -> None:
    """Replace the text of `file` as a whole, after `check` has loaded the new text.

    A symbolic link stays a link. Raises FixError if `check` finds errors, or if the file cannot be
    written.
    """
    try:
        check(new.replace("\r\n", "\n").replace("\r", "\n"))
    except ConfigError as error:
        message = f"{file} is unchanged, because after the change it would have errors:\n{error}"
        raise FixError(message) from error
    try:
        _replace(Path(file).resolve(), new)
    except OSError as error:
        message = f"{file} cannot be written: {error.strerror}\n  hint: {_hint(error)}"
        raise FixError(message) from error


def _hint(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space on its disk, and repeat the command"
    return "make the file and its folder writable, and repeat the command"


def create(file: str, text: str, check: Callable[[str], Config]) -> None:
    """Write a new file as a whole, after `check` has loaded a file with this text.

    Raises ConfigError, FileExistsError, and other OSErrors. It never replaces a file.
    """
    path = Path(file)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        check(temporary)
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        os.link(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def with_new_names(text: str, problems: Iterable[Problem]) -> tuple[str, list[Problem]]:
    """Give `text` with the old names replaced, and the problems of the replaced names."""
    starts = [0, *(match.end() for match in LINE_BREAK.finditer(text))]
    repaired = []
    for problem in sorted(problems, key=lambda problem: problem.location, reverse=True):
        if problem.rename is None or problem.file:
            continue
        old, new = problem.rename
        start = starts[problem.location.line - 1] + problem.location.column - 1
        key = re.compile(rf"""(?:[&!]\S*\s+)*["']?({re.escape(old)})\b""").match(text, start)
        if key:
            text = text[: key.start(1)] + new + text[key.end(1) :]
            repaired.append(problem)
    return text, repaired[::-1]


def _replace(path: Path, text: str) -> None:
    """Write `text` to `path` as a whole or not at all, with the same owner and permissions."""
    state = path.stat()
    if not state.st_mode & 0o222 or not os.access(path, os.W_OK):  # root may write to each file
        raise PermissionError(13, os.strerror(13))
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, temporary)
        with suppress(OSError):
            os.chown(temporary, state.st_uid, state.st_gid)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
