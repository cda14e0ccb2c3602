"""Serve two configs in one process, as `llm-proxy serve` does one: FILE PORT FILE PORT.

Both have the same code and the same memory, so a difference is that of the configs.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from pipeline.task_groups import task_group
from proxy import logging_setup
from proxy.app import App
from proxy.config import read
from proxy.memory import tune_memory
from proxy.serve import bind, listeners, uvicorn_config


class _Server(uvicorn.Server):
    """A server that leaves signals to the system: they end the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(file: str) -> _Server:
    config = read(file)
    return _Server(uvicorn_config(lambda: App(config), config.sections["server"]))


async def main(files: list[str], ports: list[str]) -> None:
    """Serve each file on its port."""
    async with task_group() as group:
        for file, port in zip(files, ports, strict=True):
            group.start_soon(_server(file).serve, listeners(bind("127.0.0.1", int(port))))


if __name__ == "__main__":
    logging_setup.set_up()
    tune_memory()
    uvloop.run(main(sys.argv[1::2], sys.argv[2::2]))
