"""Reads PDFs. A program of its own, so that it can be killed; see `stages.pdf.reader`.

    arguments   PdfLimits, in their order
    stdin       PDFs as base64, one a line
    stdout      the text of each, and a NUL after it; after the last one why the next is not read
    exit code   0: all were read
                3: one is refused, in words for the client
                1: pypdf cannot read one; its error
                else: killed by the system, for its memory or its time

It imports nothing of this project: pypdf alone takes 0.3 s.
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


def main(max_pages: int, timeout: float, max_text_bytes: int, max_memory_bytes: int) -> None:
    """Read what is on stdin. pypdf may raise anything; then this process ends with code 1."""
    given = sys.stdin.buffer.read().splitlines()  # first: who writes to a dead process fails
    _limit(timeout, max_memory_bytes)
    logging.disable()  # pypdf warns of each oddity
    sys.excepthook = lambda kind, error, _: _say(f"{kind.__name__}: {error}")
    pages = size = 0
    for data in given:
        texts = []
        try:
            for text in _pages(base64.b64decode(data)):
                texts.append(text)
                pages += 1
                size += len(text.encode())
                if pages > max_pages:
                    _refuse(f"the PDFs have more than {max_pages} pages")
                if size > max_text_bytes:
                    _refuse(f"the PDFs have more than {max_text_bytes} bytes of text")
        except FileNotDecryptedError:
            _refuse("one of the PDFs needs a password")
        sys.stdout.buffer.write(_joined(texts).encode() + b"\0")


def _limit(timeout: float, memory: int) -> None:
    """Bound what this process takes. The time, too: whoever would kill it may be dead."""
    seconds = math.ceil(timeout) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    with contextlib.suppress(OSError):  # where the system runs out of memory, it takes this first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _pages(data: bytes) -> Iterator[str]:
    """The text of each page."""
    reader = PdfReader(io.BytesIO(data))  # tries the empty password
    for page in reader.pages:
        # pypdf may leave half a surrogate pair, which is no text.
        utf16 = page.extract_text().encode("utf-16", "surrogatepass")
        yield utf16.decode("utf-16", "replace").replace("\0", "").strip()


def _joined(pages: list[str]) -> str:
    """The pages, numbered; nothing if there is no text, as on scanned pages."""
    if not any(pages):
        return ""
    numbered = enumerate(pages, 1)
    return "\n\n".join(f"[page {n}]\n{text or '(no text on this page)'}" for n, text in numbered)


def _refuse(why: str) -> NoReturn:
    _say(why)
    sys.exit(REFUSED)


def _say(why: str) -> None:
    sys.stdout.buffer.write(why.encode(errors="replace"))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
