"""A backend while models lead to it: opened, asked how it is, closed when nobody needs it.

    what happened                         `fault`
    -----------------------------------   ------------------------
    nothing yet                           it is being opened
    it is open                            (none)
    opening failed; it is tried again     it cannot be opened
    its `health` URL gives no answer      it does not answer

The last is asked only of backends that declare `health`; an answer makes it (none) again.
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

#: Seconds between two probes, and between two attempts to open.
CHECK_INTERVAL = 10.0
#: Seconds until a backend that did not answer is asked again.
RECOVERY_INTERVAL = 1.0


@define(eq=False)
class BackendMonitor:
    """One backend with the task that looks after it. `fault` is empty when it is well."""

    name: str
    backend: Backend
    opened: Callable[[], None] = lambda: None
    """Is called when it is open."""
    error: str = "it is being opened"
    _scope: anyio.CancelScope = field(factory=anyio.CancelScope, init=False)

    async def run(self) -> None:
        """Look after it until `end` or until cancelled; then it is closed."""
        try:
            with self._scope:
                await self._open()
                while self.error:
                    await anyio.sleep(CHECK_INTERVAL)
                    await self._open()
                while self.backend.profile.health:
                    await self._check()
                    await anyio.sleep(RECOVERY_INTERVAL if self.error else CHECK_INTERVAL)
                await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await self._close()

    def end(self) -> None:
        """Let it be closed; nobody needs it."""
        self._scope.cancel()

    async def _open(self) -> None:
        started = time.monotonic()
        try:
            await self.backend.open()
        except ApiError as error:
            log.error("backend `%s` cannot be opened: %s", self.name, error)
            self.error = "it cannot be opened"
            return
        log.info("backend `%s` is ready after %.1f s", self.name, time.monotonic() - started)
        self.error = ""
        self.opened()

    async def _check(self) -> None:
        try:
            await self.backend.check(self.name)
        except ApiError as error:
            if not self.error:
                log.warning("%s", error.log_message)
            self.error = "it does not answer"
        else:
            if self.error:
                log.info("backend `%s` answers again", self.name)
            self.error = ""

    async def _close(self) -> None:
        try:
            await self.backend.aclose()
        except OSError as error:
            log.error("backend `%s` cannot be closed: %s", self.name, error)
