"""Many requests, and the sums of the usage record: `python -m tests.soak.accounting`.

The session of a request says what happens to it. Its backend counts what it was asked and what it
generated, by session; the record of two workers must have the same sums at the end. A token is
four characters here, so estimates are close. A fifth of the clients disconnect in mid-stream.
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
from functools import partial
from pathlib import Path

from attrs import define, field

from stages.usage.report import lines, read_usage
from stages.usage.rows import Sums

#: What happens to a request, and how often.
SESSIONS = {
    "complete": 30,
    "uncounted": 10,
    "disconnect": 20,
    "disconnect-early": 5,
    "fallback": 15,
    "refused": 5,
    "cut": 10,
    "error-event": 5,
}
CLIENTS = 32
SECONDS = 30.0
CONFIG = """
server: {{port: 0, workers: 2}}
backends:
  one: {{base_url: "http://127.0.0.1:{one}/v1"}}
  two: {{base_url: "http://127.0.0.1:{two}/v1"}}
circuit_breaker: {{failures: 1000000}}
models:
  "*": {{targets: [{{backend: one, model: m}}, {{backend: two, model: m}}]}}
pipelines:
  messages:
    route: POST /v1/messages
    stages: [authenticate, account, validate, resolve, fallback, translate-in, invoke,
             translate-out, stream-encode]
"""
_SESSION = re.compile(rb"session=([\w-]+)")


@define
class Tally:
    """What the backends did, and what clients saw, by session."""

    requests: Counter[str] = field(factory=Counter)
    prompt: Counter[str] = field(factory=Counter)
    cached: Counter[str] = field(factory=Counter)
    output: Counter[str] = field(factory=Counter)
    seen: Counter[str] = field(factory=Counter)
    """Tokens that clients read."""
    arrived: dict[str, asyncio.Event] = field(factory=dict)
    """By request: set when a backend has it."""


@define(eq=False)
class Backend(asyncio.Protocol):
    """One connection to a backend. The first backend fails a `fallback`, the second does not."""

    tally: Tally
    first: bool
    data: bytes = b""
    task: asyncio.Task[None] | None = None
    transport: asyncio.Transport = field(init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self.task:
            self.task.cancel()

    def data_received(self, data: bytes) -> None:
        self.data += data
        top, end, body = self.data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", top, re.IGNORECASE)
        if not end or not length or len(body) < int(length[1]):
            return
        self.data = b""
        self.task = asyncio.get_running_loop().create_task(self.answer(json.loads(body)))

    async def answer(self, request: dict[str, object]) -> None:
        messages = json.dumps(request["messages"], separators=(",", ":")).encode()
        match = _SESSION.search(messages)
        assert match
        session = match[1].decode()
        prompt, output = len(messages) // 4, random.randint(1, 40)
        self.tally.requests[session] += 1
        if number := re.search(rb"number=(\d+)", messages):
            self.tally.arrived[number[1].decode()].set()
        if session == "refused":
            self.send_json(400, {"error": {"message": "no"}})
        elif session == "fallback" and self.first:
            self.send_json(503, {"error": {"message": "overloaded"}})
        else:
            self.tally.prompt[session] += prompt
            await self.generate(session, prompt, output, bool(request.get("stream")))

    async def generate(self, session: str, prompt: int, output: int, stream: bool) -> None:
        if session == "disconnect-early":
            await asyncio.sleep(SECONDS)
        usage = {"prompt_tokens": prompt, "completion_tokens": output}
        cached = random.randint(0, prompt)
        details = {"prompt_tokens_details": {"cached_tokens": cached}}
        counted = {"usage": {**usage, **details}} if session in ("complete", "fallback") else {}
        self.tally.cached[session] += cached if counted else 0
        if not stream:
            self.tally.output[session] += output
            message = {"role": "assistant", "content": "word" * output}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self.send_json(200, {"choices": [choice], **counted})
            return
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(2000 if session == "disconnect" else output):
            self.tally.output[session] += 1
            self.event(_delta("word"))
            await asyncio.sleep(0.005 if session == "disconnect" else 0)
        if session == "cut":
            self.transport.close()
        elif session == "error-event":
            self.event({"error": {"message": "No"}})
            self.transport.write(b"0\r\n\r\n")
        else:
            self.event({**_delta("", "stop"), **counted})
            self.transport.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def event(self, data: object) -> None:
        text = b"data: %b\n\n" % json.dumps(data).encode()
        self.transport.write(b"%x\r\n%b\r\n" % (len(text), text))

    def send_json(self, status: int, data: object) -> None:
        body = json.dumps(data).encode()
        top = f"HTTP/1.1 {status} x\r\ncontent-type: application/json\r\n"
        self.transport.write(f"{top}content-length: {len(body)}\r\n\r\n".encode() + body)


def _delta(content: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


@define
class Clients:
    """Clients that send requests until there are none left."""

    port: int
    remaining: int
    tally: Tally
    number: int = 0

    async def run(self) -> None:
        while self.remaining > 0:
            self.remaining -= 1
            self.number += 1
            [session] = random.choices(list(SESSIONS), list(SESSIONS.values()))
            await asyncio.wait_for(self.request(session, str(self.number)), SECONDS)

    async def request(self, session: str, number: str) -> None:
        arrived = self.tally.arrived[number] = asyncio.Event()
        stream = session in ("disconnect", "cut", "error-event") or random.random() < 0.7
        text = f"session={session} number={number} " + "text" * random.randint(100, 1000)
        messages = [{"role": "user", "content": text}]
        body = json.dumps({"model": "m", "max_tokens": 9, "stream": stream, "messages": messages})
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        top = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
        top += f"content-type: application/json\r\nx-claude-code-session-id: {session}\r\n"
        writer.write(f"{top}content-length: {len(body)}\r\n\r\n{body}".encode())
        if session == "disconnect-early":
            await arrived.wait()
        elif session == "disconnect":
            words = 0
            for _ in range(random.randint(1, 20)):
                words += (await reader.readuntil(b"text_delta")).count(b"text_delta")
            self.tally.seen[session] += words
        else:
            await reader.read()
        writer.close()
        del self.tally.arrived[number]


async def account(requests: int, folder: Path) -> list[str]:
    """Run it; what is wrong."""
    loop, tally = asyncio.get_running_loop(), Tally()
    servers = [
        await loop.create_server(partial(Backend, tally, first), "127.0.0.1", 0)
        for first in (True, False)
    ]
    one, two = (server.sockets[0].getsockname()[1] for server in servers)
    (folder / "pipelines.yaml").write_text(CONFIG.format(one=one, two=two))
    process, port = start(folder)
    started = time.monotonic()
    try:
        clients = Clients(port, requests, tally)
        await asyncio.gather(*(clients.run() for _ in range(CLIENTS)))
    finally:
        process.terminate()
        await asyncio.to_thread(process.communicate, timeout=SECONDS)
        for server in servers:
            server.close()
    print(f"{requests} requests in {time.monotonic() - started:.0f} s")  # noqa: T201
    return judge(tally, folder / "usage.db")


def start(folder: Path) -> tuple[subprocess.Popen[str], int]:
    with (folder / "log").open("w") as errors:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("llm-proxy"))],
            cwd=folder,
            env={**os.environ, "PROXY_API_KEY": ""},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout
    line = next((line for line in process.stdout if " listens on " in line), "")
    return process, int(line.rpartition(":")[2])


def judge(tally: Tally, file: Path) -> list[str]:
    """What differs between the record and the backends."""
    usages = read_usage(file, ["session"])
    sums = {line.group[0]: line.sums for line in lines(usages, lambda backend, model: ())}
    wrong = []
    for session in SESSIONS:
        recorded = sums.get(session, Sums())
        prompt = recorded.input_tokens + recorded.cache_read_tokens
        print(  # noqa: T201
            f"{session:16} attempts {recorded.attempts:6} of {tally.requests[session]:6}   "
            f"prompt {prompt:8} of {tally.prompt[session]:8}   output "
            f"{recorded.output_tokens:8} of {tally.output[session]:8}   "
            f"estimated {recorded.estimated:6}   read by clients {tally.seen[session]:6}"
        )
        wrong += [f"{session}: {each}" for each in differences(session, recorded, prompt, tally)]
    return wrong


def differences(session: str, recorded: Sums, prompt: int, tally: Tally) -> list[str]:
    """What is wrong with the sums of a session."""
    attempts, wanted = recorded.attempts, tally.prompt[session]
    checks = {"the attempts differ": attempts == tally.requests[session]}
    if session in ("complete", "fallback", "refused"):
        checks["there are estimates"] = recorded.estimated == 0
        checks["the prompts differ"] = prompt == wanted
        checks["the cached tokens differ"] = recorded.cache_read_tokens == tally.cached[session]
        checks["the outputs differ"] = recorded.output_tokens == tally.output[session]
    else:
        checks["there are no estimates"] = recorded.estimated == attempts
        checks["the prompts differ by more than 5 %"] = abs(prompt - wanted) <= wanted / 20
    if session in ("uncounted", "cut", "error-event"):
        more = recorded.output_tokens - tally.output[session]
        checks["the outputs differ by more than a token each"] = 0 <= more <= attempts
    if session == "disconnect":
        read, written = tally.seen[session], tally.output[session] + attempts
        checks["the output is not between"] = read <= recorded.output_tokens <= written
    if session.startswith("disconnect"):
        checks["the disconnects differ"] = recorded.disconnects == attempts
    if session == "fallback":
        checks["the failed attempts differ"] = recorded.errors * 2 == attempts
    return [text for text, right in checks.items() if not right]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    with tempfile.TemporaryDirectory() as folder:
        wrong = asyncio.run(account(parser.parse_args().requests, Path(folder)))
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
