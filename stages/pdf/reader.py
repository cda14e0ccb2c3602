"""The text of PDFs, for backends that take no files. Each request's are read in a process.

    state     what happens                               what comes of it
    -------   ----------------------------------------   ------------------------------------------
    waiting   a process may start: two at a time, keys   reading
              and their sessions take turns
              it may not within a minute                 529 with retry-after
              the client disconnects                     nothing
    reading   the process ends with 0                    texts, which are kept for the next turn
              it refuses, or pypdf fails, or it dies     400 with the reason
              `timeout` is over                          it is killed; 400
              the client disconnects, the proxy stops    it is killed
              the proxy is killed                        it ends by its limit of CPU time

A process is used once. So nothing of a PDF is left for another one, and its limits are those of
the system. It takes 0.3 s to start, in which pypdf is imported.
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
_MAX_KEPT = 16 * 1024 * 1024  # characters of text
_MAX_KEPT_PDFS = 1000
_MAX_SHOWN = 200  # characters of an error of pypdf
_REFUSED = 3  # see `stages.pdf.worker`, which is not imported: pypdf takes 0.3 s
_WORKER = str(Path(__file__).with_name("worker.py"))


@frozen
class PdfLimits:
    """For all PDFs of a request together. `timeout` is in seconds."""

    max_pages: int
    timeout: float
    max_text_bytes: int
    max_memory_bytes: int


@define(eq=False)
class PdfReader:
    """Reads the PDFs of all requests on one event loop; see `pdf_reader`."""

    turns: FairQueue[anyio.Event] = field(factory=lambda: FairQueue(PROCESSES))
    command: Sequence[str] = (sys.executable, "-P", _WORKER)
    _kept: dict[bytes, str] = field(factory=dict, repr=False)
    """Texts by the digest of their PDF; the one used last is at the end.

    Clients send their whole conversation with each request.
    """
    _kept_size: int = 0

    async def read(
        self, pdfs: Iterable[str], limits: PdfLimits, names: tuple[str, str]
    ) -> dict[str, str]:
        """The text of each PDF, by its base64; empty where it has none. Raises ApiError.

        `names` are the client's key and its session.
        """
        digests = await off_loop(_digests, pdfs)
        texts = {data: self._kept[each] for data, each in digests.items() if each in self._kept}
        if new := [data for data in digests if data not in texts]:
            texts |= zip(new, await self._in_turn(new, limits, names), strict=True)
        for data, digest in digests.items():
            self._keep(digest, texts[data])
        return texts

    def _keep(self, digest: bytes, text: str) -> None:
        self._kept_size += len(text) - len(self._kept.pop(digest, ""))
        self._kept[digest] = text
        while self._kept_size > _MAX_KEPT or len(self._kept) > _MAX_KEPT_PDFS:
            self._kept_size -= len(self._kept.pop(next(iter(self._kept))))

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
            began = anyio.current_time()
            texts = await self._read(pdfs, limits)
            self.turns.record_duration(anyio.current_time() - began)
            return texts
        finally:
            for following in self.turns.leave(turn):
                following.set()

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
    """Run a process that is given `data`: its exit code, and what it writes.

    When this is cancelled the process is killed. Its session is its own: Ctrl-C is for the proxy,
    which lets requests finish.
    """
    with anyio.CancelScope(shield=True):  # a start that is cut leaves half a process
        process = await anyio.open_process(command, stderr=DEVNULL, start_new_session=True)
    async with process, task_group() as group:
        group.start_soon(_send, process, data)
        out = b"".join([piece async for piece in cast("ByteReceiveStream", process.stdout)])
    return cast("int", process.returncode), out


async def _send(process: Process, data: bytes) -> None:
    stdin = cast("ByteSendStream", process.stdin)
    with suppress(anyio.BrokenResourceError, ConnectionError):  # it ends early
        await stdin.send(data)
    await stdin.aclose()


def pdf_reader() -> PdfReader:
    """That of this event loop."""
    try:
        return _READER.get()
    except LookupError:
        _READER.set(reader := PdfReader())
        return reader


_READER: RunVar[PdfReader] = RunVar("llm_proxy_pdf_reader")


def _digests(pdfs: Iterable[str]) -> dict[str, bytes]:
    return {data: hashlib.sha256(data.encode()).digest() for data in pdfs}


def _unreadable(code: int, said: str) -> InvalidRequestError:
    if code == _REFUSED:
        return InvalidRequestError(f"document: {said}: send their text, or fewer or shorter PDFs")
    why = said[:_MAX_SHOWN] or "its reader was killed, perhaps for its memory"
    message = f"document: this PDF cannot be read: {why}"
    return InvalidRequestError(message, quoted=[why])


def _busy(seconds: int) -> OverloadedError:
    return OverloadedError(
        f"too many PDFs are being read; try again in {seconds} s",
        headers={"retry-after": str(seconds)},
    )
