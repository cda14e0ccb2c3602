"""The folder that the workers share."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from proxy.coordinator.connection import listen
from proxy.coordinator.shared_folder import SOCKET, lock_folder, make_folder, remove_unless_locked


@pytest.mark.parametrize("length", [10, 150])
def test_a_socket_fits_into_it_however_long_tmpdir_is(length: int, tmp_path: Path) -> None:
    long = tmp_path / ("t" * length)
    long.mkdir()
    with make_folder(long) as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder) / SOCKET))
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert list(long.iterdir()) == []


def test_only_folders_of_dead_processes_are_removed() -> None:
    with tempfile.TemporaryDirectory(prefix="t") as short:
        parent = Path(short)
        names = ("dead", "used", "linked", "new", "of-a-user")
        dead, used, linked, new, of_a_user = (parent / f"llm-proxy-{name}" for name in names)
        elsewhere = parent / "elsewhere"
        for folder in (dead, used, new, of_a_user, elsewhere):
            folder.mkdir()
        for folder in (dead, used, elsewhere):
            listen(folder / SOCKET).close()
        (dead / "slot0.lock").touch()
        (of_a_user / "file").touch()
        linked.symlink_to(elsewhere)
        lock = lock_folder(used)

        with make_folder(parent) as made:
            kept = {used, linked, new, of_a_user, elsewhere, Path(made)}
            assert set(parent.iterdir()) == kept
        assert (elsewhere / SOCKET).exists()
        os.close(lock)


def test_the_last_worker_removes_it(tmp_path: Path) -> None:
    folder = tmp_path / "llm-proxy-x"
    folder.mkdir()
    locks = [lock_folder(folder) for _ in range(2)]
    for lock in locks:
        remove_unless_locked(folder)
        assert folder.exists()
        os.close(lock)
    remove_unless_locked(folder)
    assert not folder.exists()
