"""The temporary folder that the processes of one proxy share.

It has the coordinator's socket, the metrics, and the sockets of embedded models; see
stages/shared_metrics.py and stages/backends/shared_model.py.

    the processes that end           the folder is removed by
    ------------------------------   ------------------------------------------------
    all, after a signal              the supervisor
    the supervisor by a SIGKILL,     the last worker
    and then the workers
    all by a SIGKILL                 the next supervisor of this user, when it starts

The supervisor and each worker lock the folder for reading. The kernel frees the locks of a process
that dies, so a folder without locks belongs to no process. The supervisor makes the socket after
it has locked the folder. So a folder with a socket is not one that still has to be locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

#: The name of the coordinator's socket in the folder.
SOCKET = "sock"
_PREFIX = "llm-proxy-"
#: Bytes of a socket's path, with the zero at its end: 108 on Linux, 104 on macOS and BSD.
_MAX_PATH = 104


def make_folder(parent: Path | None = None) -> tempfile.TemporaryDirectory[str]:
    """Make a folder that only this user can open, and lock it until this process ends.

    It is in `parent`, default: TMPDIR, but in /tmp if the paths of its sockets would be too long.
    Remove the folders of dead processes next to it. Raises OSError.
    """
    # A worker that starts imports this module first, so it imports nothing that takes long.
    from stages.backends.shared_model import MAX_NAME

    folder = _temporary_folder(parent)
    if len(os.fsencode(folder.name)) + len("/") + MAX_NAME >= _MAX_PATH:
        folder.cleanup()
        folder = _temporary_folder(Path("/tmp"))  # noqa: S108 - its name is random
    lock_folder(Path(folder.name))
    _remove_dead_folders(Path(folder.name).parent)
    return folder


def _temporary_folder(parent: Path | None) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True)


def lock_folder(folder: Path) -> int:
    """Lock the folder for reading. Return its descriptor, whose closing frees the lock."""
    descriptor = _open(folder)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def remove_unless_locked(folder: Path) -> None:
    """Remove the folder, unless a process has locked it, or it belongs to another user."""
    with contextlib.suppress(OSError):  # it is locked, or another process has removed it
        descriptor = _open(folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def _remove_dead_folders(parent: Path) -> None:
    for sock in parent.glob(f"{_PREFIX}*/{SOCKET}"):
        remove_unless_locked(sock.parent)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
