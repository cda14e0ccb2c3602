"""Extracts the text of PDFs, for backends that accept no files. Each request gets a process.

    state     event                                      result
    -------   ----------------------------------------   ------------------------------------------
    waiting   a process may start: two at a time, keys   reading
              and their sessions take turns
              none may start within a minute             529 with retry-after
              the client disconnects                     nothing
    reading   the process exits with 0                   texts, which are cached for the next turn
              it refuses, or pypdf fails, or it dies     400 with the reason
              `timeout` expires                          the process is killed; 400
              the client disconnects, the proxy stops    the process is killed
              the proxy is killed                        the limit of CPU time ends the process

A process is used once: a PDF cannot affect another one, and the operating system enforces the
limits. A process takes 0.3 s to start, for the import of pypdf.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL
from typing import cast

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.lowlevel import RunVar
from attrs import astuple, define, field, frozen

from pipeline.task_groups import task_group
from stages.backends.fair_queue import FairQueue
from stages.messages_api.errors import InvalidRequestError, OverloadedError
from stages.off_loop import off_loop

PROCESSES = 2
_MAX_WAIT = 60.0  # seconds
_MAX_CACHED = 16 * 1024 * 1024  # characters of text
_MAX_CACHED_PDFS = 1000
_MAX_QUOTED = 200  # characters of an error of pypdf
_REFUSED = 3  # as in `stages.pdf.worker`, which is not imported: pypdf takes 0.3 s
_WORKER = str(Path(__file__).with_name("worker.py"))


@frozen
class PdfLimits:
    """Limits for all PDFs of a request together. `timeout` is in seconds."""

    max_pages: int
    timeout: float
    max_text_bytes: int
    max_memory_bytes: int


@define(eq=False)
class PdfReader:
    """Extracts the text of the PDFs of all requests on one event loop; see `pdf_reader`."""

    turns: FairQueue[anyio.Event] = field(factory=lambda: FairQueue(PROCESSES))
    command: Sequence[str] = (sys.executable, "-P", _WORKER)
    _cache: dict[bytes, str] = field(factory=dict, repr=False)
    """Texts by the digest of their PDF, the one that was used last at the end.

    Clients send their whole conversation with each request, so PDFs come again.
    """
    _cached_size: int = 0

    async def read(
        self, pdfs: Iterable[str], limits: PdfLimits, names: tuple[str, str]
    ) -> dict[str, str]:
        """The text of each PDF, by its base64; "" for a PDF without text. Raises ApiError.

        `names` are the client's key and its session.
        """
        digests = await off_loop(_digests, pdfs)
        texts = {data: self._cache[key] for data, key in digests.items() if key in self._cache}
        if new := [data for data in digests if data not in texts]:
            texts |= zip(new, await self._in_turn(new, limits, names), strict=True)
        for data, digest in digests.items():
            self._store(digest, texts[data])
        return texts

    def _store(self, digest: bytes, text: str) -> None:
        self._cached_size += len(text) - len(self._cache.pop(digest, ""))
        self._cache[digest] = text
        while self._cached_size > _MAX_CACHED or len(self._cache) > _MAX_CACHED_PDFS:
            self._cached_size -= len(self._cache.pop(next(iter(self._cache))))

    async def _in_turn(
        self, pdfs: Sequence[str], limits: PdfLimits, names: tuple[str, str]
    ) -> list[str]:
        turn = anyio.Event()
        try:
            if not self.turns.enter(turn, names, short=True):
                with anyio.move_on_after(_MAX_WAIT):
                    await turn.wait()
                if not turn.is_set():
                    raise _busy(self.turns.retry_after())
            start = anyio.current_time()
            texts = await self._read(pdfs, limits)
            self.turns.record_duration(anyio.current_time() - start)
            return texts
        finally:
            for next_turn in self.turns.leave(turn):
                next_turn.set()

    async def _read(self, pdfs: Sequence[str], limits: PdfLimits) -> list[str]:
        command = [*self.command, *map(str, astuple(limits))]
        data = "\n".join([*pdfs, ""]).encode()
        with anyio.move_on_after(limits.timeout) as scope:
            code, out = await _run(command, data)
        if scope.cancelled_caught:
            raise InvalidRequestError(
                f"document: the PDFs take longer to read than {limits.timeout:g} s: "
                "send fewer or shorter ones, or their text"
            )
        *texts, last = out.decode(errors="replace").split("\0")
        if code:
            raise _unreadable(code, last)
        return texts


async def _run(command: Sequence[str], data: bytes) -> tuple[int, bytes]:
    """Run a process with `data` as its input. Returns its exit code and its output.

    Cancellation kills the process. It runs in a session of its own: Ctrl-C is for the proxy,
    which lets requests finish.
    """
    with anyio.CancelScope(shield=True):  # a cancelled start would lose track of the process
        process = await anyio.open_process(command, stderr=DEVNULL, start_new_session=True)
    async with process, task_group() as group:
        group.start_soon(_send, process, data)
        out = b"".join([chunk async for chunk in cast("ByteReceiveStream", process.stdout)])
    return cast("int", process.returncode), out


async def _send(process: Process, data: bytes) -> None:
    stdin = cast("ByteSendStream", process.stdin)
    with suppress(anyio.BrokenResourceError, ConnectionError):  # the process may exit early
        await stdin.send(data)
    await stdin.aclose()


def pdf_reader() -> PdfReader:
    """The reader of this event loop."""
    try:
        return _READER.get()
    except LookupError:
        _READER.set(reader := PdfReader())
        return reader


_READER: RunVar[PdfReader] = RunVar("llm_proxy_pdf_reader")


def _digests(pdfs: Iterable[str]) -> dict[str, bytes]:
    return {data: hashlib.sha256(data.encode()).digest() for data in pdfs}


def _unreadable(code: int, output: str) -> InvalidRequestError:
    if code == _REFUSED:
        return InvalidRequestError(f"document: {output}")
    reason = output[:_MAX_QUOTED] or "its reader was killed, perhaps because of its memory"
    message = f"document: this PDF cannot be read: {reason}"
    return InvalidRequestError(message, quoted=[reason])


def _busy(seconds: int) -> OverloadedError:
    return OverloadedError(
        f"too many PDFs are being read; try again in {seconds} s",
        headers={"retry-after": str(seconds)},
    )
