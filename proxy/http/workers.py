"""Several worker processes that serve one socket, under uvicorn's supervisor.

The supervisor restarts a worker that dies. The classes of this module change these things:

- On SIGHUP it would replace the workers. Here the workers reload their config.
- It would keep the socket while the workers finish: new clients would wait in vain.
- Before the first worker, it calls a function, which may start threads.
- It would restart workers that die at once without a pause, and for ever if none can start.
- If the system has no files or no memory for a new worker, it would end with a traceback, and then
  wait for the other workers for ever.
- It would not see a second signal while the workers finish.
- It would wait for ever for a worker that hangs or is stopped, after a signal.
- It would wait a minute for the response to each health check. In that time it would handle no
  signal and replace no other worker.
- On SIGTTIN and SIGTTOU it would change the number of workers. What they share depends on it.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import resource_tracker

from uvicorn import Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from proxy.http.disconnect import CLOSE_TIMEOUT
from proxy.signals import EXIT_SIGNALS, WorkerProcess, has_terminal

log = logging.getLogger("llm_proxy")

#: Health checks of a worker per second. It is the rate of the loop in `Multiprocess.run`.
_CHECKS_PER_SECOND = 2
#: The longest pause before a worker starts, and the time of serving that ends all pauses: seconds.
_MAX_DELAY = 30.0


class Worker(Process):
    """A worker process.

    state      event                                next
    --------   ----------------------------------   ---------------------------------------------
    starting   responds that it serves              serving
    either     dies, or has not responded for       dead; a new worker starts after
               `timeout_worker_healthcheck`         `restart_delay`
    dead       a worker of each place has died      the supervisor ends with status 1
               early, and none has ever served
    dead       the system cannot start a new one    dead; the next attempt is after
                                                    `restart_delay`
    """

    unanswered = 0
    """Health checks since its last response."""
    serving_since: float | None = None
    """Seconds of the monotonic clock."""
    delay = 0.0
    """Seconds that it has waited for its start; when it is dead, those of the next one."""
    restart_at = math.inf
    """When the next one starts, if this one is dead: seconds of the monotonic clock."""

    def __init__(
        self, config: Config, sockets: list[socket.socket], on_orphaned: Callable[[], None]
    ) -> None:
        super().__init__(config, sockets)
        self.process = WorkerProcess(self.process, on_orphaned)

    def is_alive(self, timeout: float = 5) -> bool:
        """Whether the process runs, and has responded to one of the checks in `timeout` seconds.

        This is a health check, and does not wait for the response. It counts checks, because a
        supervisor that was stopped does not know how long its workers were stopped.
        """
        if not self.process.is_alive():
            return False
        while self.parent_conn.poll():
            if self.parent_conn.recv() and self.serving_since is None:
                self.serving_since = time.monotonic()
            self.unanswered = 0
        if not self.unanswered:
            self.parent_conn.send(b"ping")
        self.unanswered += 1
        return self.unanswered <= timeout * _CHECKS_PER_SECOND


class Workers(Multiprocess):
    """The supervisor. It serves no requests itself.

    `on_start` is called in the main thread, with SIGHUP blocked: threads that it starts inherit
    that. Otherwise a SIGHUP to one of them would end the process. `on_orphaned`: see WorkerProcess.
    """

    processes: list[Worker]  # type: ignore[assignment]
    served = False
    """Whether a worker has ever served."""
    failed = False
    """Whether no worker could start."""

    def __init__(
        self,
        config: Config,
        sockets: list[socket.socket],
        on_start: Callable[[], None],
        on_orphaned: Callable[[], None],
    ) -> None:
        super().__init__(config, sockets)
        self.on_start, self.on_orphaned = on_start, on_orphaned

    def run(self) -> None:
        """Run the workers until a signal. Exit with status 1 if none can start.

        Raises OSError if the system cannot start all of them.
        """
        self.terminal = has_terminal()
        # Workers inherit the mask. Without it, a SIGHUP would kill those that are starting.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        threading.Thread(target=self._wait_for_hup, daemon=True).start()
        self.on_start()
        try:
            super().run()
        finally:  # after an error, this process would wait for them
            _kill(self.processes)
        if self.failed:
            sys.exit(1)

    def _wait_for_hup(self) -> None:
        while True:
            self.signal_queue.append(signal.sigwait({signal.SIGHUP}))

    def handle_int(self) -> None:
        """Stop. A second signal stays in the queue: `join_all` handles it."""
        if self.should_exit.is_set():
            self.signal_queue.append(signal.SIGINT)
        self.should_exit.set()

    handle_term = handle_int

    def handle_ttin(self) -> None:
        """Ignore the signal."""

    handle_ttou = handle_ttin

    def handle_hup(self) -> None:
        """Make the workers reload their config, or stop if the terminal was closed."""
        if self.terminal and not has_terminal():
            self.should_exit.set()
            return
        for worker in self.processes:
            if worker.process.is_alive() and worker.pid is not None:
                os.kill(worker.pid, signal.SIGHUP)

    def init_processes(self) -> None:
        """Start the workers. Raises OSError."""
        resource_tracker.ensure_running()  # its start unblocks SIGINT
        for _ in range(self.processes_num):
            self.processes.append(self._started_worker())

    def keep_subprocess_alive(self) -> None:
        """Replace dead workers, or stop if none can start; see Worker."""
        for index, worker in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if worker.restart_at == math.inf:
                if worker.is_alive(self.config.timeout_worker_healthcheck):
                    self.served = self.served or worker.serving_since is not None
                    continue
                self._end(worker)
            if worker.restart_at <= time.monotonic():
                self.processes[index] = self._successor(worker)

    def _end(self, worker: Worker) -> None:
        """Kill a worker that does not respond. Decide when the next one starts."""
        exitcode = worker.exitcode
        reason = "does not respond" if exitcode is None else f"died ({_cause(exitcode)})"
        worker.kill()
        worker.join()
        now = time.monotonic()
        seconds = 0 if worker.serving_since is None else now - worker.serving_since
        worker.delay = restart_delay(seconds, worker.delay)
        worker.restart_at = now + worker.delay
        if not self.served and all(process.delay for process in self.processes):
            log.error("worker %d %s: no worker can start, so the proxy stops", worker.pid, reason)
            self.failed = True
            self.should_exit.set()
            return
        pause = f" in {worker.delay:g} s" if worker.delay else ""
        log.warning("worker %d %s: the supervisor starts a new one%s", worker.pid, reason, pause)

    def _successor(self, dead: Worker) -> Worker:
        """Start a new worker. Return it, or the dead one if the system cannot start it now."""
        try:
            return self._started_worker(dead.delay)
        except OSError as error:
            dead.delay = restart_delay(0, dead.delay)
            dead.restart_at = time.monotonic() + dead.delay
            log.error(
                "a worker cannot start: %s; the next attempt is in %g s",
                *(error.strerror or error, dead.delay),
            )
            return dead

    def _started_worker(self, delay: float = 0) -> Worker:
        """Start a worker. Raises OSError."""
        worker = Worker(self.config, self.sockets, self.on_orphaned)
        worker.delay = delay
        # The worker inherits the mask. Ctrl-C would end its imports with a traceback.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            worker.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return worker

    def terminate_all(self) -> None:
        """Close the sockets, and ask the workers to finish."""
        for listener in self.sockets:
            listener.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for the workers. Kill them after a second signal, or when they are late."""
        seconds = (self.config.timeout_graceful_shutdown or 0) + CLOSE_TIMEOUT
        deadline = time.monotonic() + seconds
        while alive := [worker for worker in self.processes if worker.process.is_alive()]:
            if EXIT_SIGNALS.intersection(self.signal_queue):
                _kill(alive)
            elif time.monotonic() > deadline:
                for worker in alive:
                    log.error("worker %d has not ended in %g s: killed", worker.pid, seconds)
                _kill(alive)
            else:
                alive[0].process.join(0.1)


def restart_delay(seconds: float, last: float) -> float:
    """Return the seconds until the next worker starts, after one has served for `seconds`.

    `last` is the delay of the worker that died: delays grow until a worker has served for a while.
    """
    return 0.0 if seconds >= _MAX_DELAY else min(max(1.0, 2 * last), _MAX_DELAY)


def _cause(exitcode: int) -> str:
    if exitcode < 0:
        return f"signal {-exitcode}, {signal.strsignal(-exitcode)}"
    return f"exit status {exitcode}"


def _kill(workers: Sequence[Process]) -> None:
    for worker in workers:
        worker.process.kill()
    for worker in workers:
        worker.process.join()
