"""The clients of a soak, and what they see."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter

from attrs import Factory, define

from tests.secrets import PROMPT
from tests.soak.backend import FAULTS

SECONDS = 20.0  # nothing takes so long


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
            if not await asyncio.wait_for(self.request(*streams), SECONDS):
                streams[1].close()
                streams = None
        if streams:
            streams[1].close()

    async def request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether its connection can be used again."""
        fault = self.random.choice(list(FAULTS)) if self.random.random() < 0.2 else ""
        disconnect = self.random.choice(DISCONNECTS) if self.random.random() < 0.2 else ""
        stream = self.random.random() < 0.7
        data = _request(fault, stream)
        self.sent += 1
        self.outcomes[disconnect or fault or "good"] += 1
        writer.write(data[:-9] if disconnect == "in its body" else data)
        await writer.drain()
        if disconnect in ("in its body", "at once"):
            return False
        top = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.seen += re.findall(r"request-id: (req_\w+)", top)
        if disconnect:
            return False
        body = await _body(reader, top)
        finished = b"event: message_stop" in body if stream else b'"end_turn"' in body
        expected = finished if not fault else b'"type":"error"' in body and not finished
        if not expected:
            self.wrong.append(f"{fault or 'good'}, stream={stream}: {top} {body[-300:]!r}")
        return True


DISCONNECTS = ("in its body", "at once", "in the response")


def _request(fault: str, stream: bool) -> bytes:
    said = f"{PROMPT} fault={fault}" if fault else PROMPT
    messages = [{"role": "user", "content": said}]
    asked = {"model": "m", "max_tokens": 9, "stream": stream, "messages": messages}
    body = json.dumps(asked).encode()
    head = "POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    return b"%bcontent-length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


async def _body(reader: asyncio.StreamReader, top: str) -> bytes:
    if length := re.search(r"content-length: (\d+)", top):
        return await reader.readexactly(int(length[1]))
    return await reader.readuntil(b"\r\n0\r\n\r\n")
