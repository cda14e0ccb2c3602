"""Reads recorded exchanges from files, one line at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click

from stages.recording.lines import LineError, Recorded, parse
from stages.recording.writer import PATTERN


def files(place: Path) -> list[Path]:
    """Give the recordings of a folder, the oldest first; or the file. Raises ClickException."""
    if not place.is_dir():
        return [place]
    recordings = sorted(place.glob(PATTERN)) or sorted(place.glob("*.jsonl"))
    if not recordings:
        hint = "add the stage `record` after `validate`, and send a request"
        raise click.ClickException(f"there are no recordings in {place}\n  hint: {hint}")
    return recordings


def count(recordings: list[Path], limit: int | None) -> int:
    """Count the lines, at most `limit`. Raises ClickException."""
    number = 0
    for _, line in (pair for file in recordings for pair in _lines(file)):
        number += line is not None
        if number == limit:
            break
    return number


def read(recordings: list[Path], on_broken: Callable[[str], None]) -> Iterator[Recorded]:
    """Yield the exchanges. Call `on_broken` with the place and the mistake of each other line.

    Raises ClickException.
    """
    for file in recordings:
        for number, line in _lines(file):
            if line is None:
                on_broken(f"{file}: it was deleted; a running proxy deletes its oldest recordings")
                continue
            try:
                yield parse(line)
            except LineError as error:
                on_broken(f"{file}:{number}: {error}")


def _lines(file: Path) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines of a file with their numbers; None, if the file was deleted meanwhile."""
    try:
        with file.open("rb") as lines:
            yield from enumerate(lines, 1)
    except FileNotFoundError:
        yield 0, None
    except OSError as error:
        raise click.ClickException(
            f"{file} cannot be read: {error.strerror}\n  hint: check who may read it"
        ) from error
