"""The process that has the embedded model of several workers; see `stages.backends.shared_model`.

    arguments   the path of its files without suffix; the number of a file that it inherits, with
                the lock of the start; options of the Profile, as JSON
    stdout      closed when the model is loaded; before that, the reason of a failure
    stderr      the workers' log

It ignores the signals of a terminal and of a service manager: the workers get them too, finish
their requests, and then it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from stages.backends import embedded
from stages.profiles.profile import Profile


def main(start: Callable[[Profile, str], embedded.EmbeddedServer] = embedded.start) -> int:
    """Serve the model until no worker uses it. Return the exit status."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    path, start_lock, options = sys.argv[1:]
    loading = Path(f"{path}.new.sock")
    loading.unlink(missing_ok=True)  # of a process that died while it loaded
    try:
        server = start(Profile(base_url="", embedded=True, **json.loads(options)), str(loading))
    except (RuntimeError, ImportError, OSError) as error:
        with contextlib.suppress(BrokenPipeError):  # the worker that started it is dead
            os.write(1, str(error).encode())
        return 1
    loading.rename(f"{path}.sock")  # only now can workers connect: the model is loaded
    os.dup2(0, 1)  # stdin is /dev/null; this closes the pipe to the worker
    os.close(int(start_lock))
    with Path(f"{path}.users").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX)  # waits until no worker has its lock
        server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
