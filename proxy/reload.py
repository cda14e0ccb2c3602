"""Reloads the config when one of its files changes, and on SIGHUP.

Its files are the config itself, the `.env` next to it, its `keys_file`, and each `${file:PATH}`.

A reload is all or nothing: problems are logged in the format of `check`, and the running config
stays. Unchanged backends are kept, with their connections and the loaded model, and so are the
counters. Modules of custom stages are not imported again. Of the section `server` only the
allowed hosts, the allowed origins and the size of the cache of conversations are reloaded.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import attrs
from attrs import define, field

from pipeline.config.files import contents
from pipeline.config.load import digest, read_texts
from pipeline.config.problems import ConfigError
from pipeline.config.schema import Config
from pipeline.task_groups import task_group
from proxy.config import carry_over, check_open_access, read
from proxy.signals import has_terminal

log = logging.getLogger("llm_proxy")

# Options of the section `server` that a reload changes.
_RELOADED = {"allowed_hosts", "allowed_origins", "conversation_cache_bytes"}


@define(eq=False)
class Reload:
    """Reloads the file of the config `running`, for a server that listens on `host`.

    If `watch`, it reads the files every `interval` seconds. It compares contents, not times: that
    works with editors that replace a file, and with mounted files. A change counts after two equal
    reads: some editors empty a file before they write it.
    """

    running: Config
    host: str
    watch: bool = True
    interval: float = 0.3
    transform: Callable[[Config], Config] = lambda config: config
    """Changes each config that was read, as the first one was changed."""
    _started_with: Config = field(init=False)
    _digest: bytes = field(init=False)
    _files: tuple[Path, ...] = field(init=False)
    """The files that the last config named, also if it was not valid."""
    _had_terminal: bool = field(factory=has_terminal, init=False)
    _lock: anyio.Lock = field(factory=anyio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        self._started_with = self.running
        self._digest, self._files = self.running.digest, self.running.files

    async def run(self, apply: Callable[[Config], None]) -> None:
        """Call `apply` with each valid new config, until cancelled."""
        async with task_group() as group:
            if threading.current_thread() is threading.main_thread():  # signals need it
                group.start_soon(self._on_signal, apply)
            if self.watch:
                group.start_soon(self._on_change, apply)

    async def _on_signal(self, apply: Callable[[Config], None]) -> None:
        with anyio.open_signal_receiver(signal.SIGHUP) as hangups:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
            async for _ in hangups:
                if self._had_terminal and not has_terminal():  # the terminal was closed
                    signal.raise_signal(signal.SIGTERM)
                else:
                    await self._reload(apply)

    async def _on_change(self, apply: Callable[[Config], None]) -> None:
        previous = self._digest
        while True:
            await anyio.sleep(self.interval)
            current = await anyio.to_thread.run_sync(self._current_digest)
            if current == previous and current != self._digest:
                await self._reload(apply)
            previous = current

    async def _reload(self, apply: Callable[[Config], None]) -> None:
        async with self._lock:
            try:  # in a thread: it takes a tenth of a second, and streams must not wait for it
                config = await anyio.to_thread.run_sync(self._read)
            except ConfigError as error:
                file = self.running.file
                log.error("%s not reloaded, the running config stays:\n%s", file, error.report())
                return
            self._log(config)
            self.running = config
            apply(config)

    def _read(self) -> Config:
        # Recorded first, so that a broken file is not reloaded until it changes again.
        self._digest = self._current_digest()
        try:
            config = read(self.running.file, adapt=carry_over(self.running))
        except ConfigError as error:
            if error.digest:
                self._digest, self._files = error.digest, error.files
            raise
        self._digest, self._files = config.digest, config.files
        check_open_access(config, self.host)
        return self.transform(config)

    def _current_digest(self) -> bytes:
        """Return a digest of the files' contents, or the error of reading them."""
        try:
            return digest(read_texts(self.running.file), contents(self._files))
        except ConfigError as error:
            return str(error).encode()

    def _log(self, config: Config) -> None:
        for note in config.notes:
            log.info("%s", note.render(config.file, config.masked_source))
        at_start: Any = self._started_with.sections["server"]
        for name, value in attrs.asdict(config.sections["server"]).items():
            if value != getattr(at_start, name) and name not in _RELOADED:
                log.warning("`server.%s` has changed: restart the proxy to apply it", name)
        before, after = self.running.sections["backends"], config.sections["backends"]
        new = [name for name, backend in after.items() if backend is not before.get(name)]
        removed = [name for name, backend in before.items() if backend is not after.get(name)]
        log.info(
            "%s reloaded; backends new or changed: %s; removed or changed: %s",
            config.file,
            ", ".join(new) or "none",
            ", ".join(removed) or "none",
        )
