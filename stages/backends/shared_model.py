"""The embedded model of several workers: one process has it, and all workers call it.

    state         event                                    next
    -----------   --------------------------------------   ---------------------------------------
    not started   a worker opens the backend               loading
    loading       another worker opens the backend         it waits
    loading       the model is loaded                      running
    loading       that fails, or the process dies          not started; a worker gets the error,
                                                           and one that waits starts it again
    loading       the worker that started it dies          loading: others still wait
    running       a worker opens the backend               running
    running       the process dies                         not started; running calls get the error
                                                           of a broken connection, the next call
                                                           starts it again, also one that finds
                                                           the socket closed when it connects
    running       the last worker closes the backend (a    it ends
                  reload, the shutdown), or dies

Workers with the same options use the same process. The process starts at most once, and ends with
its last worker, because the kernel frees the locks of a process that dies, however it dies. So
nobody has to supervise it, not even the supervisor.

    file in the folder     content
    --------------------   -----------------------------------------------------------------------
    KEY.new.sock           the socket of a process that loads the model
    KEY.sock               the socket of a process that has loaded it
    KEY.start              locked by the worker that starts the process, and by the process while it
                           loads
    KEY.users              locked for reading by each worker that uses the process

Only this user can open the folder, so only this user's processes can connect. A browser cannot
connect to a Unix socket.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, cast

from attrs import define, field

from stages.backends import model_process
from stages.profiles.profile import Profile

log = logging.getLogger("llm_proxy")

#: Characters of the longest name of a socket in the folder.
MAX_NAME = len("12345678.new.sock")


@define(eq=False)
class SharedModel:
    """The EmbeddedModel that the workers with `folder` share. `command` runs `model_process`."""

    folder: Path
    profile: Profile
    command: Sequence[str] = (sys.executable, "-P", model_process.__file__)
    _options: str = field(init=False)
    _path: str = field(init=False)
    """Of its files, without suffix."""
    _users: int | None = field(default=None, init=False)
    """The file whose lock says that this worker uses the process."""
    _was_running: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        profile = self.profile
        options = {"model_path": profile.model_path, "context_window": profile.context_window}
        self._options = json.dumps(options)
        key = hashlib.blake2b(self._options.encode(), digest_size=4).hexdigest()
        self._path = str(self.folder / key)

    @property
    def socket(self) -> str:
        """See EmbeddedModel."""
        return f"{self._path}.sock"

    @property
    def is_running(self) -> bool:
        """See EmbeddedModel."""
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.setblocking(False)
                probe.connect(self.socket)
        except (ConnectionError, FileNotFoundError):
            return False
        except OSError:  # it has many connections to accept, or this worker many open files
            return True
        return True

    def start(self) -> str:
        """See EmbeddedModel."""
        if self._users is None:
            self._users = self._lock("users", fcntl.LOCK_SH)  # waits for one that is about to end
        lock = self._lock("start", fcntl.LOCK_EX)
        try:
            if not self.is_running:
                self._run(lock)
        except (RuntimeError, OSError):
            self.close()
            raise
        finally:
            os.close(lock)
        self._was_running = True
        return "http://localhost"

    def close(self) -> None:
        """See EmbeddedModel."""
        if self._users is not None:
            os.close(self._users)
            self._users = None

    def _lock(self, suffix: str, kind: int) -> int:
        """Open and lock a file. Whoever closes it unlocks it."""
        file = os.open(f"{self._path}.{suffix}", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(file, kind)
        return file

    def _run(self, lock: int) -> None:
        """Start the process, and wait until it has loaded the model."""
        if self._was_running:
            log.warning("the process of the embedded model has died: it is started again")
        began = time.monotonic()
        process = subprocess.Popen(  # noqa: S603
            [*self.command, self._path, str(lock), self._options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=[lock],
        )
        with cast("IO[bytes]", process.stdout) as stdout:
            reason = stdout.read().decode(errors="replace")
        if not self.is_running:
            status = process.wait()
            raise RuntimeError(reason or f"its process ended with status {status}")
        # Otherwise it would stay as a zombie.
        threading.Thread(target=process.wait, daemon=True, name="embedded model").start()
        seconds = time.monotonic() - began
        log.info("process %d has loaded the embedded model in %.1f s", process.pid, seconds)
