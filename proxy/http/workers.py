"""Several processes that serve on one socket, by uvicorn's supervisor.

It restarts a worker that dies. Three of its ways do not fit here:

- On SIGHUP it would replace the workers. They are told to reload themselves.
- While the workers finish it would keep the socket: new clients would wait, for nobody.
- A second signal would not be seen while the workers finish.
"""

from __future__ import annotations

import os
import signal
import threading

from uvicorn.supervisors import Multiprocess

from proxy.signals import has_terminal


class Workers(Multiprocess):
    """The supervisor. It serves nothing itself."""

    def run(self) -> None:
        """Serve until a signal."""
        self.terminal = has_terminal()
        # Workers inherit this. Without it, a SIGHUP would kill those that are starting.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        threading.Thread(target=self._wait_for_hup, daemon=True).start()
        super().run()

    def _wait_for_hup(self) -> None:
        while True:
            self.signal_queue.append(signal.sigwait({signal.SIGHUP}))

    def handle_hup(self) -> None:
        """Let the workers reload; or end, if it was the terminal that was closed."""
        if self.terminal and not has_terminal():
            self.should_exit.set()
            return
        for process in self.processes:
            if process.pid is not None:
                os.kill(process.pid, signal.SIGHUP)

    def terminate_all(self) -> None:
        """Let the workers finish."""
        for bound in self.sockets:
            bound.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for the workers; not after a second signal."""
        while alive := [each.process for each in self.processes if each.process.is_alive()]:
            alive[0].join(0.1)
            if {signal.SIGINT, signal.SIGTERM}.intersection(self.signal_queue):
                for process in alive:
                    process.kill()
