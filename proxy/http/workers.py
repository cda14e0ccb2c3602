"""Several worker processes that serve one socket, under uvicorn's supervisor.

The supervisor restarts a worker that dies. This subclass changes five things:

- On SIGHUP it would replace the workers. Here the workers reload their config.
- It would keep the socket while the workers finish: new clients would wait in vain.
- Before the first worker, it calls a function, which may start threads.
- It would not see a second signal while the workers finish.
- It would wait a minute for the response of a worker that is killed during a health check.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable

from uvicorn import Config
from uvicorn.supervisors import Multiprocess

from proxy.signals import has_terminal


class Workers(Multiprocess):
    """The supervisor. It serves no requests itself.

    `on_start` is called in the main thread, with SIGHUP blocked: threads that it starts inherit
    that. Otherwise a SIGHUP to one of them would end the process.
    """

    def __init__(
        self, config: Config, sockets: list[socket.socket], on_start: Callable[[], None]
    ) -> None:
        super().__init__(config, sockets)
        self.on_start = on_start

    def run(self) -> None:
        """Run the workers until a signal."""
        self.terminal = has_terminal()
        # Workers inherit the mask. Without it, a SIGHUP would kill those that are starting.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        threading.Thread(target=self._wait_for_hup, daemon=True).start()
        self.on_start()
        super().run()

    def _wait_for_hup(self) -> None:
        while True:
            self.signal_queue.append(signal.sigwait({signal.SIGHUP}))

    def handle_hup(self) -> None:
        """Make the workers reload their config, or stop if the terminal was closed."""
        if self.terminal and not has_terminal():
            self.should_exit.set()
            return
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """Replace each worker that has died or does not respond to a health check.

        Only the worker has its end of the pipe, so that its death ends a wait for its response.
        """
        for worker in self.processes:
            worker.child_conn.close()
        super().keep_subprocess_alive()

    def terminate_all(self) -> None:
        """Close the sockets, and ask the workers to finish."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for the workers, but kill them after a second signal."""
        while alive := [worker.process for worker in self.processes if worker.process.is_alive()]:
            alive[0].join(0.1)
            if {signal.SIGINT, signal.SIGTERM}.intersection(self.signal_queue):
                for process in alive:
                    process.kill()
