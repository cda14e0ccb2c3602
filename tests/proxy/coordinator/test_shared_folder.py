"""The folder that the workers share."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from proxy.coordinator.sharing import SOCKET, make_folder


@pytest.mark.parametrize("length", [10, 150])
def test_a_socket_fits_into_it_however_long_tmpdir_is(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("t" * length)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with make_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder) / SOCKET))
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert list(long.iterdir()) == []
