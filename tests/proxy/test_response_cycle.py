"""The prepared lines of a head are sent once."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import anyio
import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from proxy.http.disconnect import HEADER_LINES
from proxy.http.response_cycle import ResponseCycle

START = {"type": "http.response.start", "status": 200, "headers": [], HEADER_LINES: b"a: 1\r\n"}


class Transport:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data += data

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # as uvicorn
async def test_a_start_that_was_cancelled_leaves_no_lines() -> None:
    transport: Any = Transport()
    flow = FlowControl(transport)
    cycle = ResponseCycle(
        {"type": "http", "method": "GET"},  # type: ignore[typeddict-item]
        transport,
        flow,
        logging.getLogger(),
        logging.getLogger(),
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    flow.pause_writing()
    with anyio.move_on_after(0):
        await cycle.send({**START})
    flow.resume_writing()
    await cycle.send({**START})

    assert transport.data.count(b"a: 1\r\n") == 1
