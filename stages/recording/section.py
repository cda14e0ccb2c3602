"""The section `recordings`: where the stage `record` writes exchanges, and what it removes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from attrs import define, field, fields, validators

from pipeline import option
from stages.recording.lines import Line
from stages.recording.writer import Writer

log = logging.getLogger("llm_proxy")

DEFAULT_FOLDER = "recordings"
MIB = 1024 * 1024


@define(eq=False)
class Recordings:
    """The section `recordings`. The folder is made with the first exchange.

    It is a section, not options of `record`: the running record survives a reload, several
    pipelines share its limit, and the proxy closes it at its end.
    """

    folder: str = option(
        "",
        help="the folder of the files, relative to the folder of this config; default: "
        "`recordings` in $STATE_DIRECTORY, which systemd sets, otherwise next to this config",
    )
    max_bytes: int = option(
        256 * MIB,
        help="most bytes of all files in the folder; beyond, the oldest ones are deleted",
        validator=validators.ge(MIB),
    )
    redact: bool = option(
        True,
        help="replace keys, tokens, passwords and e-mail addresses in the texts by `[redacted]`",
    )
    path: Path = field(default=Path(DEFAULT_FOLDER), init=False)
    """The folder, after `locate`."""
    _writer: Writer | None = field(default=None, init=False, repr=False)

    def locate(self, folder: str, environ: Mapping[str, str]) -> None:
        """Find the folder, for a config in `folder`."""
        state = environ.get("STATE_DIRECTORY", "").partition(":")[0]
        default = Path(state, DEFAULT_FOLDER) if state else Path(DEFAULT_FOLDER)
        self.path = Path(folder) / (Path(self.folder).expanduser() if self.folder else default)

    def add(self, line: Line, size: int) -> None:
        """Queue a line of about `size` bytes."""
        if self._writer is None:
            self._writer = Writer(self.path, self.max_bytes, self.redact)
        self._writer.add(line, size)

    def close(self) -> None:
        """Write what is queued, and close the file. Blocks for at most 3 seconds."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def keep(self, reloaded: Recordings) -> Recordings:
        """Return this object in place of a reloaded one, and log the options that differ."""
        for each in fields(Recordings):
            name = each.name
            if each.init and getattr(self, name) != getattr(reloaded, name):
                log.warning("`recordings.%s` has changed: restart the proxy to apply it", name)
        return self
