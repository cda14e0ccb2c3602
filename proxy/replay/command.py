"""Replays recorded exchanges, and prints how the results differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import click
from attrs import frozen

from pipeline.config.schema import Config
from pipeline.task_groups import task_group
from proxy.explain.command import choose
from proxy.replay import recordings, report
from proxy.replay.comparison import Comparison, Sums, compare
from proxy.replay.run import Result, recorded_result, replay
from proxy.replay.target import Against, against
from stages.messages_api.errors import ApiError
from stages.recording.lines import Recorded


@frozen
class Wishes:
    """The options of the command."""

    against: str | None = None
    pipeline: str | None = None
    limit: int | None = None
    concurrency: int = 1
    as_json: bool = False


def run(config: Config, place: Path, wishes: Wishes) -> Sums:
    """Replay the exchanges of a folder or a file, and print the report; also after Ctrl-C.

    Raises ClickException.
    """
    target = against(config, choose(config, wishes.pipeline), wishes.against)
    files = recordings.files(place)
    total = recordings.count(files, wishes.limit)
    progress, sums = report.Progress(total), Sums()

    def on_broken(message: str) -> None:
        sums.broken += 1
        progress.echo(message, err=True)

    def on_done(comparison: Comparison) -> None:
        sums.add(comparison)
        if wishes.as_json:
            progress.echo(report.as_json(comparison))
        elif comparison.verdict != "same":
            progress.echo(report.table(comparison))
        progress.show(sums)

    exchanges = _selected(recordings.read(files, on_broken), sums, wishes.limit)
    progress.echo(f"replaying {total} exchange{'s' * (total != 1)} against {target.name}", err=True)
    interrupted = False
    try:
        anyio.run(partial(_replay_all, config, target, exchanges, wishes.concurrency, on_done))
    except KeyboardInterrupt:
        interrupted = True
    summary = report.summary_json if wishes.as_json else report.summary
    progress.echo(summary(sums, interrupted))
    if interrupted:
        raise click.exceptions.Exit(1)
    if not sums.replayed:
        hint = "`record` writes exchanges that have `request` and `exchange`"
        raise click.ClickException(f"no exchange in {place} can be replayed\n  hint: {hint}")
    return sums


def _selected(
    exchanges: Iterator[Recorded], sums: Sums, limit: int | None
) -> Iterator[tuple[Recorded, Result]]:
    """Yield the exchanges that have an end, with their recorded results; count the others."""
    for number, recorded in enumerate(exchanges):
        if number == limit:
            return
        result = recorded_result(recorded)
        if result is None:
            sums.skipped += 1
        else:
            yield recorded, result


async def _replay_all(
    config: Config,
    target: Against,
    exchanges: Iterator[tuple[Recorded, Result]],
    concurrency: int,
    on_done: Callable[[Comparison], None],
) -> None:
    backends = list(target.backends(config))
    free = anyio.CapacityLimiter(concurrency)

    async def one(recorded: Recorded, before: Result, borrower: object) -> None:
        try:
            now = await replay(target, recorded)
        finally:
            free.release_on_behalf_of(borrower)
        on_done(compare(str(recorded.exchange.get("id") or "?"), before, now))

    try:
        for backend in backends:
            with suppress(ApiError):  # the requests get it, too
                await backend.open()  # takes seconds that belong to no request
        async with task_group() as group:
            for recorded, before in exchanges:
                borrower = object()
                await free.acquire_on_behalf_of(borrower)  # before the next line is read
                group.start_soon(one, recorded, before, borrower)
    finally:
        with anyio.CancelScope(shield=True):
            for backend in backends:
                await backend.aclose()
