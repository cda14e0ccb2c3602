"""Runs the coordinator in a thread of the supervisor."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future

import anyio

from proxy.coordinator.coordinator import Coordinator


def start(listener: socket.socket) -> None:
    """Run a coordinator in a thread until the process ends. Return when its event loop runs.

    Raises OSError if the system has no files for its event loop.
    """
    running: Future[None] = Future()

    async def serve() -> None:
        running.set_result(None)
        await Coordinator().serve(listener)

    def run() -> None:
        try:
            anyio.run(serve)
        except OSError as error:
            if running.done():
                raise
            running.set_exception(error)
        finally:
            running.cancel()  # after another error, which this thread prints: nobody waits for ever

    threading.Thread(target=run, daemon=True, name="coordinator").start()
    running.result()
