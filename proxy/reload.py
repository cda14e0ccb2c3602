"""Reading the declaration again: when it or the `.env` beside it changes, and on SIGHUP.

All or nothing: a declaration with a problem is told of in the log, as `check` tells it, and what
is served stays. Backends that did not change are kept, with their connections and the loaded
model, and so are the counters. Modules of one's own stages are not imported again, and what
`server` says counts at the start only, except its allowed hosts and origins.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread
import attrs
from attrs import define, field

from pipeline.config.load import digest, read_texts
from pipeline.config.problems import ConfigError
from pipeline.config.schema import Config
from pipeline.task_groups import task_group
from proxy.config import carry_over, check_open_access, read
from proxy.signals import has_terminal

log = logging.getLogger("llm_proxy")

# What a reload changes of the section `server`.
_RELOADED = {"allowed_hosts", "allowed_origins"}


@define(eq=False)
class Reload:
    """Follows the file of `running`, for a server that listens on `host`.

    `watch` is whether it looks at the files by itself, each `interval` (seconds). It compares
    contents, not times: that works with editors that replace a file, and with mounted
    configuration. A change counts when it was seen twice: some editors empty a file before they
    write it.
    """

    running: Config
    host: str
    watch: bool = True
    interval: float = 0.5
    _first: Config = field(init=False)
    _digest: bytes = field(init=False)
    _terminal: bool = field(factory=has_terminal, init=False)
    _one_at_a_time: anyio.Lock = field(factory=anyio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._first = self.running
        self._digest = self.running.digest

    async def run(self, begin: Callable[[Config], None]) -> None:
        """Give each declaration that is in order to `begin`, until cancelled."""
        async with task_group() as group:
            if threading.current_thread() is threading.main_thread():  # others get no signals
                group.start_soon(self._on_signal, begin)
            if self.watch:
                group.start_soon(self._on_change, begin)

    async def _on_signal(self, begin: Callable[[Config], None]) -> None:
        with anyio.open_signal_receiver(signal.SIGHUP) as hangups:
            async for _ in hangups:
                if self._terminal and not has_terminal():  # it was closed: nobody will stop us
                    signal.raise_signal(signal.SIGTERM)
                else:
                    await self._again(begin)

    async def _on_change(self, begin: Callable[[Config], None]) -> None:
        before = self._digest
        while True:
            await anyio.sleep(self.interval)
            now = await anyio.to_thread.run_sync(self._look)
            if now == before and now != self._digest:
                await self._again(begin)
            before = now

    async def _again(self, begin: Callable[[Config], None]) -> None:
        async with self._one_at_a_time:
            try:  # in a thread: it takes a tenth of a second, which no stream should wait
                declaration = await anyio.to_thread.run_sync(self._read)
            except ConfigError as error:
                file = self.running.file
                log.error("%s cannot be used, what is served stays:\n%s", file, error.report())
                return
            self._tell(declaration)
            self.running = declaration
            begin(declaration)

    def _read(self) -> Config:
        self._digest = self._look()  # for one that is broken; of what changes next it is looked at
        declaration = read(self.running.file, adapt=carry_over(self.running))
        self._digest = declaration.digest
        check_open_access(declaration, self.host)
        return declaration

    def _look(self) -> bytes:
        """What tells one state of the files from another."""
        try:
            return digest(read_texts(self.running.file))
        except ConfigError as error:
            return str(error).encode()

    def _tell(self, declaration: Config) -> None:
        for note in declaration.notes:
            log.info("%s", note.render(declaration.file, declaration.masked_source))
        first: Any = self._first.sections["server"]
        for name, value in attrs.asdict(declaration.sections["server"]).items():
            if value != getattr(first, name) and name not in _RELOADED:
                log.warning("`server.%s` is changed, which needs a restart", name)
        before, now = self.running.sections["backends"], declaration.sections["backends"]
        new = [name for name, backend in now.items() if backend is not before.get(name)]
        gone = [name for name, backend in before.items() if backend is not now.get(name)]
        log.info(
            "%s is reloaded; backends new or changed: %s; gone or changed: %s",
            declaration.file,
            ", ".join(new) or "none",
            ", ".join(gone) or "none",
        )
