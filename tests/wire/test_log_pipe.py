"""The command with a log that nobody reads (row D5), in a real process with a real pipe."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define

from tests import secrets
from tests.wire.client import Client
from tests.wire.command import CLEAN, COMMAND, LIMIT, NO_BACKENDS

#: Linux only: it sets the size of a pipe. Elsewhere a pipe has its usual size.
_F_SETPIPE_SZ = 1031
_PIPE_SIZE = 4096
#: Lines of more than 60 bytes, so these are more than the pipe holds.
REFUSED = 700 if not Path("/proc").is_dir() else 100


@define
class Unread:
    """A proxy whose log goes to a pipe that is read on request."""

    process: subprocess.Popen[str]
    client: Client
    read_end: int

    def refuse(self, times: int) -> None:
        """Make the proxy write `times` lines."""
        for _ in range(times):
            assert self.client.get("/v1/models", **{"x-api-key": "wrong"}).status == 401

    def read(self) -> list[str]:
        """All lines to the end of the process."""
        with os.fdopen(self.read_end, "rb", closefd=False) as log:
            text = log.read().decode()
        secrets.printed(text)
        return text.splitlines()


@pytest.fixture
def unread(tmp_path: Path) -> Iterator[Unread]:
    file = tmp_path / "pipelines.yaml"
    file.write_text(NO_BACKENDS)
    read_end, write_end = os.pipe()
    if Path("/proc").is_dir():
        fcntl.fcntl(write_end, _F_SETPIPE_SZ, _PIPE_SIZE)
    process = subprocess.Popen(
        [*COMMAND, "--config", str(file), "--port", "0"],
        env=CLEAN,
        stdout=subprocess.PIPE,
        stderr=write_end,
        text=True,
    )
    os.close(write_end)
    assert process.stdout
    client = Client(process.stdout.readline().split()[-1])
    yield Unread(process, client, read_end)
    client.close()
    process.kill()
    process.wait()
    process.stdout.close()
    os.close(read_end)


def test_row_d5_a_full_log_pipe_stops_neither_requests_nor_signals(unread: Unread) -> None:
    unread.refuse(REFUSED)
    assert unread.client.get("/health/live").status == 200
    unread.process.terminate()
    assert unread.process.wait(LIMIT) == -signal.SIGTERM


def test_row_d5_a_late_reader_of_the_log_gets_all(unread: Unread) -> None:
    unread.refuse(REFUSED)
    unread.process.terminate()
    refused = [line for line in unread.read() if " GET /v1/models 401 " in line]
    assert len(refused) == REFUSED
    assert unread.process.wait(LIMIT) == -signal.SIGTERM
