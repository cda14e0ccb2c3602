"""Opens a referenced backend, checks its health, and closes it when no model refers to it.

    event                                 `error`
    -----------------------------------   ----------------------
    none yet                              it is being opened
    the backend is open                   (empty)
    opening failed; it is repeated        it cannot be opened
    its `health` URL does not respond     it does not respond

Only backends with a `health` URL are checked; a response empties `error` again. A check is left out
if calls of the backend have succeeded since the last one, or if another worker has just checked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import anyio
from attrs import define, field

from stages.backends.backend import Backend
from stages.messages_api.errors import ApiError

log = logging.getLogger("llm_proxy")

#: Seconds between two health checks, and between two attempts to open.
CHECK_INTERVAL = 10.0
#: Seconds until the next health check of a backend that did not respond.
RECOVERY_INTERVAL = 1.0


@define(eq=False)
class BackendMonitor:
    """One backend, and the task that opens, checks and closes it.

    `error` is empty while the backend is usable. `on_open` is called when it has opened.
    `on_check` gets the name of the backend, and `error`, after each check of this process.
    """

    name: str
    backend: Backend
    on_open: Callable[[], None] = lambda: None
    error: str = "it is being opened"
    on_check: Callable[[str, str], None] = lambda name, error: None
    _opened: bool = field(default=False, init=False)
    _responses: int = field(default=0, init=False)
    """Of the backend, at the last check."""
    _recorded: bool = field(default=False, init=False)
    """Whether another worker has checked since the last time this one would have."""
    _scope: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)

    async def run(self) -> None:
        """Open and check the backend until `stop` or cancellation, then close it."""
        try:
            with self._scope:
                await self._open()
                while self.error:
                    await anyio.sleep(CHECK_INTERVAL)
                    await self._open()
                while self.backend.profile.health:
                    if not self._is_known():
                        await self._check()
                    await anyio.sleep(RECOVERY_INTERVAL if self.error else CHECK_INTERVAL)
                await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await self._close()

    def stop(self) -> None:
        """Make `run` close the backend and return."""
        self._scope.cancel()

    async def _open(self) -> None:
        started = time.monotonic()
        try:
            await self.backend.open()
        except ApiError as error:
            log.error("backend `%s` cannot be opened: %s", self.name, error)
            self.error = "it cannot be opened"
            return
        log.info("backend `%s` is open after %.1f s", self.name, time.monotonic() - started)
        self.error, self._opened = "", True
        self.on_open()

    def record(self, error: str) -> None:
        """Take the result of another worker's check. Its log has the reason."""
        if self._opened:
            self.error, self._recorded = error, True

    def _is_known(self) -> bool:
        """Whether the state of the backend is known without a check."""
        responses, self._responses = self._responses, self.backend.responses
        recorded, self._recorded = self._recorded, False
        return recorded or (not self.error and responses != self._responses)

    async def _check(self) -> None:
        try:
            await self.backend.check(self.name)
        except ApiError as error:
            if not self.error:
                log.warning("%s", error.log_message)
            self.error = "it does not respond"
        else:
            if self.error:
                log.info("backend `%s` responds again", self.name)
            self.error = ""
        self.on_check(self.name, self.error)

    async def _close(self) -> None:
        try:
            await self.backend.aclose()
        except OSError as error:
            log.error("backend `%s` cannot be closed: %s", self.name, error)
