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
    """Count the lines, at most `limit`."""
    number = 0
    for file in recordings:
        with file.open("rb") as lines:
            for _ in lines:
                number += 1
                if number == limit:
                    return number
    return number


def read(recordings: list[Path], on_broken: Callable[[str], None]) -> Iterator[Recorded]:
    """Yield the exchanges. Call `on_broken` with the place and the mistake of each other line."""
    for file in recordings:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield parse(line)
                except LineError as error:
                    on_broken(f"{file}:{number}: {error}")
