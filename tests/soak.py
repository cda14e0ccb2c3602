"""Many requests with faults and disconnects mixed in: `python -m tests.soak --requests 100000`.

The proxy is a process of its own, started as a person starts it. A fifth of the answers of its
backend fail, and a fifth of its clients leave early. In the end its file descriptors, tasks and
memory have to be as after the first tenth, each answer has to be the one that was due, and the log
has to have one line for each request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from attrs import Factory, define, frozen

from tests.secrets import PROMPT

CLIENTS = 32
_SECONDS = 20.0  # nothing takes so long
_GROWTH = 16 * 1024  # kB of memory that are no leak: what the allocator keeps

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

DECLARATION = """
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


# ---- the backend ----


def _event(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()


def _answer(data: bytes, kind: str = "text/event-stream", status: int = 200, cut: int = 0) -> bytes:
    """An answer whose last `cut` bytes are missing."""
    length = len(data) + cut
    top = f"HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n"
    return top.encode() + data


_TEXT = b"".join(_event(f"word {n} ") for n in range(8))
_MESSAGE = {"role": "assistant", "content": "Hello"}
_WHOLE = json.dumps({"choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}]})
STREAM = _answer(_TEXT + _event("", "stop") + b"data: [DONE]\n\n")
WHOLE = _answer(_WHOLE.encode(), "application/json")
#: What is sent in place of an answer, and whether the connection is closed then.
FAULTS: dict[str, tuple[bytes, bool]] = {
    "closed": (b"", True),
    "half-a-head": (b"HTTP/1.1 200 OK\r\ncont", True),
    "no-http": (b"\0\1\2\r\n\r\n", True),
    "cut": (_answer(_TEXT, cut=99), True),
    "html": (_answer(b"<html>", "text/html"), False),
    "broken-json": (_answer(b"data: {\n\n"), False),
    "early-end": (_answer(_TEXT), False),
    "error-event": (_answer(_TEXT + b'data: {"error": {"message": "No"}}\n\n'), False),
    "error-400": (_answer(b'{"error": {"message": "No"}}', "application/json", 400), False),
    "error-429": (_answer(b"", "text/plain", 429), False),
    "error-500": (_answer(b"x" * 5000, "text/plain", 500), True),
    "silent": (_answer(_TEXT, cut=99), False),
}
_ASKED = re.compile(rb"fault=([\w-]+)")


class Backend(asyncio.Protocol):
    """One connection. The prompt names the fault."""

    def __init__(self) -> None:
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        top, end, body = self.data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", top, re.IGNORECASE)
        if not end or not length or len(body) < int(length[1]):
            return
        self.data = b""
        if fault := _ASKED.search(body):
            said, closes = FAULTS[fault[1].decode()]
            self.transport.write(said)
            if closes:
                self.transport.close()
        else:
            self.transport.write(STREAM if b'"stream":true' in body else WHOLE)


# ---- the clients ----


@define
class Run:
    """What is to be done, and what came of it."""

    url: tuple[str, int]
    left: int
    random: random.Random = Factory(lambda: random.Random(1))
    sent: int = 0
    seen: list[str] = Factory(list)
    outcomes: Counter[str] = Factory(Counter)
    wrong: list[str] = Factory(list)

    async def client(self) -> None:
        """Send requests, one by one, while there are any left."""
        streams = None
        while self.left > 0:
            self.left -= 1
            streams = streams or await asyncio.open_connection(*self.url)
            if not await asyncio.wait_for(self.request(*streams), _SECONDS):
                streams[1].close()
                streams = None
        if streams:
            streams[1].close()

    async def request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether its connection can be used again."""
        fault = self.random.choice(list(FAULTS)) if self.random.random() < 0.2 else ""
        leaves = self.random.choice(LEAVING) if self.random.random() < 0.2 else ""
        stream = self.random.random() < 0.7
        data = _request(fault, stream)
        self.sent += 1
        self.outcomes[leaves or fault or "good"] += 1
        writer.write(data[:-9] if leaves == "in its body" else data)
        await writer.drain()
        if leaves in ("in its body", "at once"):
            return False
        top = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.seen += re.findall(r"request-id: (req_\w+)", top)
        if leaves:
            return False
        body = await _body(reader, top)
        finished = b"event: message_stop" in body if stream else b'"end_turn"' in body
        told = finished if not fault else b'"type":"error"' in body and not finished
        if not told:
            self.wrong.append(f"{fault or 'good'}, stream={stream}: {top} {body[-300:]!r}")
        return True


LEAVING = ("in its body", "at once", "in the answer")


def _request(fault: str, stream: bool) -> bytes:
    said = f"{PROMPT} fault={fault}" if fault else PROMPT
    messages = [{"role": "user", "content": said}]
    asked = {"model": "m", "max_tokens": 9, "stream": stream, "messages": messages}
    body = json.dumps(asked).encode()
    return b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body


async def _body(reader: asyncio.StreamReader, top: str) -> bytes:
    if length := re.search(r"content-length: (\d+)", top):
        return await reader.readexactly(int(length[1]))
    return await reader.readuntil(b"\r\n0\r\n\r\n")


# ---- the proxy ----


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
        writer.write(b"GET /tasks HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        return int(answer.rpartition(b"\r\n\r\n")[2])


async def soak(requests: int, folder: Path) -> list[str]:
    """Run it; what is wrong."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Backend, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    (folder / "pipelines.yaml").write_text(DECLARATION.format(port=port))
    (folder / "soak_stage.py").write_text(STAGE)
    log = folder / "log"
    proxy = _start(folder, log)
    try:
        runs, states, started = [], [], time.monotonic()
        for share in (requests // 10, requests - requests // 10):
            runs.append(Run(proxy.address, share))
            await asyncio.gather(*(runs[-1].client() for _ in range(CLIENTS)))
            states.append(await proxy.state())
        print(f"{requests} requests in {time.monotonic() - started:.0f} s: {states}")  # noqa: T201
        print(dict(sum((run.outcomes for run in runs), Counter())))  # noqa: T201
    finally:
        proxy.process.terminate()
        proxy.process.communicate(timeout=_SECONDS)
        server.close()
    before, after = states
    return _judge(runs, before, after, log.read_text())


def _start(folder: Path, log: Path) -> Proxy:
    with log.open("w") as errors:
        command = [str(Path(sys.executable).with_name("llm-proxy"))]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PROXY_API_KEY": ""},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout
    said = next((line for line in process.stdout if " listens on " in line), "")
    return Proxy(process, ("127.0.0.1", int(said.rpartition(":")[2])))


def _judge(runs: list[Run], before: State, after: State, log: str) -> list[str]:
    wrong = [each for run in runs for each in run.wrong][:5]
    if after.tasks > before.tasks:
        wrong.append(f"tasks are left: {before.tasks} before, {after.tasks} after")
    if after.descriptors > before.descriptors + CLIENTS:  # connections to the backend are kept
        wrong.append(f"files are left open: {before.descriptors} before, {after.descriptors} after")
    if after.kilobytes > before.kilobytes + _GROWTH:
        wrong.append(f"memory grows: {before.kilobytes} kB before, {after.kilobytes} kB after")
    lines = Counter(re.findall(r" (req_\w+) POST /v1/messages \d+ [\d.]+s", log))
    sent = sum(run.sent for run in runs)
    if lines.total() != sent or len(lines) != sent:
        wrong.append(f"{sent} requests have {lines.total()} lines, of {len(lines)} ids")
    if unknown := {each for run in runs for each in run.seen} - lines.keys():
        wrong.append(f"{len(unknown)} answers have no line in the log")
    if PROMPT in log:
        wrong.append("there is a prompt in the log")
    if "Traceback" in log or " failed\n" in log:
        wrong.append("there is a bug in the log: " + log[log.find(" failed\n") - 200 :][:2000])
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    with tempfile.TemporaryDirectory() as folder:
        wrong = asyncio.run(soak(parser.parse_args().requests, Path(folder)))
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
