"""Extracts the text of PDFs, in a process that can be killed; see `stages.pdf.reader`.

    arguments   the fields of PdfLimits, in their order
    stdin       PDFs as base64, one per line
    stdout      the text of each PDF, and a NUL after it; at the end the reason of a failure
    exit code   0: all PDFs were read
                3: a PDF is refused; the reason is for the client
                1: pypdf cannot read a PDF; the reason is pypdf's error
                other: the system killed the process, for its memory or its time

This module imports nothing of this project: pypdf alone takes 0.3 s.
"""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import math
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from pypdf import PdfReader
from pypdf.errors import FileNotDecryptedError

REFUSED = 3
_SHORTER = "send their text, or fewer or shorter PDFs"


def main(max_pages: int, timeout: float, max_text_bytes: int, max_memory_bytes: int) -> None:
    """Read the PDFs on stdin. pypdf may raise any error; the process then exits with code 1."""
    pdfs = sys.stdin.buffer.read().splitlines()  # before a failure: the writer expects a reader
    _limit(timeout, max_memory_bytes)
    logging.disable()  # pypdf logs each irregularity
    sys.excepthook = lambda kind, error, _: _write(f"{kind.__name__}: {error}")
    pages = size = 0
    for data in pdfs:
        texts = []
        try:
            for text in _pages(base64.b64decode(data)):
                texts.append(text)
                pages += 1
                size += len(text.encode())
                if pages > max_pages:
                    _refuse(f"the PDFs have more than {max_pages} pages: {_SHORTER}")
                if size > max_text_bytes:
                    _refuse(f"the PDFs have more than {max_text_bytes} bytes of text: {_SHORTER}")
        except FileNotDecryptedError:
            _refuse("one of the PDFs needs a password: send it without a password")
        sys.stdout.buffer.write(_join(texts).encode() + b"\0")


def _limit(timeout: float, memory: int) -> None:
    """Limit memory and time of this process. The proxy, which would kill it, may be dead."""
    seconds = math.ceil(timeout) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with contextlib.suppress(OSError):  # out of memory, the system kills this process first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _pages(data: bytes) -> Iterator[str]:
    """The text of each page."""
    reader = PdfReader(io.BytesIO(data))  # tries the empty password
    for page in reader.pages:
        # pypdf may return half a surrogate pair, which is not valid text.
        utf16 = page.extract_text().encode("utf-16", "surrogatepass")
        yield utf16.decode("utf-16", "replace").replace("\0", "").strip()


def _join(pages: list[str]) -> str:
    """The pages with their numbers; "" if no page has text, as in a scan."""
    if not any(pages):
        return ""
    numbered = enumerate(pages, 1)
    return "\n\n".join(f"[page {n}]\n{text or '(no text on this page)'}" for n, text in numbered)


def _refuse(reason: str) -> NoReturn:
    _write(reason)
    sys.exit(REFUSED)


def _write(reason: str) -> None:
    sys.stdout.buffer.write(reason.encode(errors="replace"))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
