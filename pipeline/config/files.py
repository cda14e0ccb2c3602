"""The files that a config names: secrets as `${file:PATH}`, and entries of a section."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from attrs import Factory, define

#: Bytes of a file, and of one with a secret.
_MAX_FILE = 16 * 1024 * 1024
_MAX_SECRET = 64 * 1024


class FileError(Exception):
    """A file cannot be used. `hint` is the next action."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@define
class Files:
    """Reads the files that one config names, and remembers their contents.

    Relative paths begin at `folder`, which is the config's. `replaced` are texts that are used in
    place of the texts of files.
    """

    folder: Path
    replaced: Mapping[Path, str] = Factory(dict)
    contents: dict[Path, bytes] = Factory(dict)
    """What was read, or the error as text. With this a change of a file is noticed."""

    def path(self, name: str) -> Path:
        """Give the path of the file that the config calls `name`."""
        return self.folder / name

    def secret(self, name: str) -> str:
        """Give the text of a file without the line breaks at its end. Raises FileError."""
        text = self.text(name).rstrip("\r\n")
        if not text:
            raise FileError(f"the file {name} is empty", "write the value into it")
        if len(text.encode()) > _MAX_SECRET:
            hint = "correct the path: this is more than a key or a password"
            raise FileError(f"the file {name} has more than {_MAX_SECRET} bytes", hint)
        return text

    def text(self, name: str) -> str:
        """Give the text of a file. Raises FileError."""
        path = self.path(name)
        if path in self.replaced:
            return self.replaced[path]
        try:
            content = _read(path)
            self.contents[path] = content
            return content.decode()
        except OSError as error:
            self.contents[path] = str(error.strerror).encode()
            hint = "create it, or correct the path"
            if not isinstance(error, FileNotFoundError):
                hint = f"make it a file of at most {_MAX_FILE} bytes that the proxy may read"
            raise FileError(f"the file {name} cannot be read: {error.strerror}", hint) from error
        except UnicodeDecodeError as error:
            raise FileError(f"the file {name} is not UTF-8 text", "save it as UTF-8") from error


def contents(paths: Iterable[Path]) -> list[bytes]:
    """Give the contents of files, or the errors as text, as `Files.contents` has them."""
    result = []
    for path in paths:
        try:
            result.append(_read(path))
        except OSError as error:
            result.append(str(error.strerror).encode())
    return result


def _read(path: Path) -> bytes:
    """Read a file. Raises OSError, also for a device or a pipe, which could have no end."""
    if path.exists() and not path.is_file():
        raise OSError(0, "it is not a file")
    with path.open("rb") as file:
        content = file.read(_MAX_FILE + 1)
    if len(content) > _MAX_FILE:
        raise OSError(0, "it is too large")
    return content
