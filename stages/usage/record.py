"""The section `usage`: where the stage `account` records usage, and for how long."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field, fields, validators

from pipeline import option
from stages.exchange import Exchange
from stages.usage.rows import rows
from stages.usage.writer import Writer

log = logging.getLogger("llm_proxy")

DEFAULT_FILE = "usage.db"
MIB = 1024 * 1024


@define(eq=False)
class UsageRecord:
    """The section `usage`. The file is opened, and its thread started, with the first row."""

    file: str = option(
        "",
        help="the SQLite file, relative to the folder of this config; default: `usage.db` in "
        "$STATE_DIRECTORY, which systemd sets, otherwise next to this config. Not on NFS",
    )
    attempt_days: int = option(
        30, help="days for which the row of an attempt is kept", validator=validators.ge(1)
    )
    sum_days: int = option(
        400, help="days for which the sums of a day are kept", validator=validators.ge(1)
    )
    max_bytes: int = option(
        256 * MIB,
        help="most bytes of the file; beyond, the oldest rows are deleted",
        validator=validators.ge(MIB),
    )
    path: Path = field(default=Path(DEFAULT_FILE), init=False)
    """The file, after `locate`."""
    _writer: Writer | None = field(default=None, init=False, repr=False)

    def locate(self, folder: str, environ: Mapping[str, str]) -> None:
        """Find the file, for a config in `folder`."""
        state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
        default = Path(state, DEFAULT_FILE) if state else Path(DEFAULT_FILE)
        self.path = Path(folder) / (Path(self.file).expanduser() if self.file else default)

    def add(self, exchange: Exchange) -> None:
        """Queue the rows of an exchange that has ended."""
        if exchange.attempts:
            if self._writer is None:
                limits = (self.attempt_days, self.sum_days, self.max_bytes)
                self._writer = Writer(self.path, *limits)
            self._writer.add(rows(exchange))

    def close(self) -> None:
        """Write what is queued, and close the file. Blocks for at most 3 seconds."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def keep(self, reloaded: UsageRecord) -> UsageRecord:
        """Return this record in place of a reloaded one, and log the options that differ."""
        for each in fields(UsageRecord):
            if each.init and getattr(self, each.name) != getattr(reloaded, each.name):
                log.warning("`usage.%s` has changed: restart the proxy to apply it", each.name)
        return self
