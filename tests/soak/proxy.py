"""The proxy of a soak, as a person starts it, and how it is."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

from attrs import define, frozen

from tests.wire.command import CLEAN

STAGE = '''
import asyncio

from attrs import frozen

from pipeline import Send, Stage
from stages.events import HttpRequest, HttpResponse, json_response


@frozen
class CountTasks(Stage[HttpRequest, HttpResponse]):
    """Answers with the number of tasks there are."""

    async def handle(self, event: HttpRequest, forward: Send[HttpResponse]) -> None:
        for part in json_response(str(len(asyncio.all_tasks())).encode()):
            await forward(part)
'''

CONFIG = """
server: {{port: 0}}
backends:
  soak: {{base_url: "http://127.0.0.1:{port}/v1"}}
models:
  "*": {{backend: soak}}
pipelines:
  messages:
    route: POST /v1/messages
    stages: [authenticate, validate, resolve, translate-in, invoke: {{idle_timeout: 0.5}},
             translate-out, stream-encode]
  tasks: {{route: GET /tasks, stages: [soak_stage:CountTasks]}}
"""


@frozen
class State:
    """What must not grow."""

    descriptors: int
    tasks: int
    kilobytes: int


@define
class Proxy:
    """The command at work."""

    process: subprocess.Popen[str]
    address: tuple[str, int]

    async def state(self) -> State:
        """How it is, once it has come to rest."""
        last = None
        for _ in range(100):
            now = State(self._descriptors(), await self._tasks(), self._kilobytes())
            if last and (now.descriptors, now.tasks) == (last.descriptors, last.tasks):
                return now
            last = now
            await asyncio.sleep(0.6)  # longer than the backend is waited for
        raise AssertionError(f"it does not come to rest: {last}")

    def _descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def _kilobytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])

    async def _tasks(self) -> int:
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(b"GET /tasks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return int(answer.rpartition(b"\r\n\r\n")[2])


def start(folder: Path, port: int) -> Proxy:
    """Start the proxy in `folder`, with the backend at `port`. The log goes to the file `log`."""
    (folder / "pipelines.yaml").write_text(CONFIG.format(port=port))
    (folder / "soak_stage.py").write_text(STAGE)
    with (folder / "log").open("w") as errors:
        command = [str(Path(sys.executable).with_name("llm-proxy"))]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=CLEAN,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout
    said = next((line for line in process.stdout if " listens on " in line), "")
    return Proxy(process, ("127.0.0.1", int(said.rpartition(":")[2])))
