"""PDFs are read in processes that end: by themselves, by their limits, or with the request."""

from __future__ import annotations

import base64
import os
import random
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from attrs import evolve

from pipeline.task_groups import task_group
from stages.messages_api.errors import InvalidRequestError
from stages.pdf.reader import PROCESSES, PdfLimits, PdfReader
from tests.pdfs import (
    encrypted,
    inflating,
    nested_forms,
    pdf,
    repeated_page,
    with_filter,
)

LIMITS = PdfLimits(
    max_pages=10, timeout=60, max_text_bytes=100_000, max_memory_bytes=512 * 1024 * 1024
)
OWNER = ("key", "session")
#: For tests in which the process does not matter.
NO_PDF = "JVBERi0="


#: For what `stages.pdf.worker` says: it is a process, and does not know which event loop waits.
ONCE = pytest.mark.parametrize("anyio_backend", ["asyncio"])


async def read(data: str, limits: PdfLimits = LIMITS) -> str:
    """The text of a PDF, or why it is not read."""
    try:
        return (await PdfReader().read([data], limits, OWNER))[data]
    except InvalidRequestError as error:
        return f"{error.status}: {error.message}"


async def check(cases: Mapping[str, tuple[str, PdfLimits, str]]) -> None:
    """Read all at a time; each has to come to the words it is given with."""
    counts: dict[str, str] = {}

    async def one(name: str, data: str, limits: PdfLimits) -> None:
        counts[name] = await read(data, limits)

    async with task_group() as group:
        for name, (data, limits, _) in cases.items():
            group.start_soon(one, name, data, limits)
    assert counts == {name: words for name, (_, _, words) in cases.items()}


async def test_row_a6_what_can_be_read_is_read() -> None:
    aes = encrypted("Invoice 42", "")
    rc4 = encrypted("Invoice 43", "", "RC4-128")
    texts = await PdfReader().read([aes, rc4, pdf("One", "", "Three"), pdf("")], LIMITS, OWNER)
    assert list(texts.values()) == [
        "[page 1]\nInvoice 42",
        "[page 1]\nInvoice 43",
        "[page 1]\nOne\n\n[page 2]\n(no text on this page)\n\n[page 3]\nThree",
        "",
    ]


@ONCE
async def test_row_a6_what_cannot_be_read_is_a_400_that_says_why() -> None:
    cannot = "400: document: this PDF cannot be read: "
    broken = base64.b64encode(b"%PDF-1.4 broken").decode()
    await check(
        {
            "a password": (
                encrypted("x", "secret"),
                LIMITS,
                "400: document: one of the PDFs needs a password: send it without a password",
            ),
            # The PDF library names its own error, because it does not know this filter.
            "an unknown filter": (
                with_filter("JPXDecode2"),
                LIMITS,
                f"{cannot}NotImplementedError: Unsupported filter /JPXDecode2",
            ),
            "broken": (broken, LIMITS, f"{cannot}PdfStreamError: Stream has ended unexpectedly"),
        }
    )


@ONCE
async def test_row_a5_an_expensive_pdf_is_a_400_that_names_the_limit() -> None:
    shorter = ": send their text, or fewer or shorter PDFs"
    slow = (
        "400: document: the PDFs take longer to read than 0.5 s: "
        "send fewer or shorter ones, or their text"
    )
    await check(
        {
            "pages": (
                pdf(*["x"] * 11),
                LIMITS,
                f"400: document: the PDFs have more than 10 pages{shorter}",
            ),
            "text": (
                inflating(200_000),
                LIMITS,
                f"400: document: the PDFs have more than 100000 bytes of text{shorter}",
            ),
            "a page named over and over": (
                repeated_page(3000),
                LIMITS,
                f"400: document: the PDFs have more than 10 pages{shorter}",
            ),
            "nested forms": (nested_forms(8, 8), LIMITS, ""),  # pypdf has a limit for these
            "much in one page": (inflating(5_000_000), evolve(LIMITS, timeout=0.5), slow),
        }
    )


@ONCE
async def test_row_a6_a_changed_pdf_is_read_or_refused() -> None:
    seeds = [encrypted("Invoice 42", ""), pdf("a", "b"), inflating(1000)]
    chance = random.Random(6)
    async with task_group() as group:
        for seed in seeds * 3:
            data = bytearray(base64.b64decode(seed))
            for _ in range(10):
                data[chance.randrange(len(data))] = chance.randrange(256)
            group.start_soon(read, base64.b64encode(data).decode())


async def test_a_process_that_dies_is_no_fault_of_the_proxy() -> None:
    for end in ("kill -9 $$", "exec <&-; kill -9 $$"):
        reader = PdfReader(command=("sh", "-c", end))
        with pytest.raises(InvalidRequestError, match="its reader was killed"):
            await reader.read(["A" * 4_000_000], LIMITS, OWNER)


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Each process of `sleeping` writes its number to it."""
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


def sleeping(fifo: Path) -> PdfReader:
    return PdfReader(command=("sh", "-c", f"echo $$ >{fifo}; exec sleep 1000"))


async def gone(process: int) -> None:
    """Wait until there is no such process: it is killed, but perhaps not yet waited for."""
    with anyio.fail_after(10):
        while os.path.exists(f"/proc/{process}"):  # noqa: ASYNC240, PTH110
            await anyio.lowlevel.checkpoint()


async def test_row_a5_the_process_ends_when_the_client_disconnects(fifo: Path) -> None:
    async with task_group() as group:
        group.start_soon(sleeping(fifo).read, [NO_PDF], LIMITS, OWNER)
        process = int(await anyio.to_thread.run_sync(fifo.read_text))
        group.cancel_scope.cancel()
    await gone(process)


async def test_row_a5_the_process_ends_at_the_timeout(fifo: Path) -> None:
    processes = []

    async def listen() -> None:
        processes.append(int(await anyio.to_thread.run_sync(fifo.read_text)))

    async with task_group() as group:
        group.start_soon(listen)
        with pytest.raises(InvalidRequestError, match=r"longer to read than 0\.5 s"):
            await sleeping(fifo).read([NO_PDF], evolve(LIMITS, timeout=0.5), OWNER)
    await gone(*processes)


async def test_row_a5_few_processes_run_and_the_others_wait() -> None:
    reader = PdfReader(command=("sh", "-c", "exec sleep 1000"))
    async with task_group() as group:
        for n in range(5):
            group.start_soon(reader.read, [NO_PDF], LIMITS, (f"key-{n}", ""))
        with anyio.fail_after(10):
            while reader.turns.waiting < 5 - PROCESSES:
                await anyio.lowlevel.checkpoint()
        assert reader.turns.running == PROCESSES
        group.cancel_scope.cancel()
    assert (reader.turns.running, reader.turns.waiting) == (0, 0)


def counting(tmp_path: Path) -> tuple[PdfReader, Path]:
    """A reader whose processes add a line to a file for each PDF they read."""
    log = tmp_path / "log"
    script = f"tee -a {log} | sed 's/.*/text/' | tr '\\n' '\\0'"
    return PdfReader(command=("sh", "-c", script)), log


async def test_a_pdf_that_is_sent_again_is_not_read_again(tmp_path: Path) -> None:
    reader, log = counting(tmp_path)
    for pdfs in (["AAAA", "BBBB"], ["AAAA", "BBBB", "CCCC"], ["CCCC"]):
        assert await reader.read(pdfs, LIMITS, OWNER) == dict.fromkeys(pdfs, "text")
    assert log.read_text().split() == ["AAAA", "BBBB", "CCCC"]


async def test_the_cache_of_texts_is_bounded(tmp_path: Path) -> None:
    reader = PdfReader(command=("sh", "-c", "head -c 9000000 /dev/zero | tr '\\0' x; printf '\\0'"))
    for data in ("AAAA", "BBBB", "AAAA"):
        assert len((await reader.read([data], LIMITS, OWNER))[data]) == 9_000_000
    assert len(reader._cache) == 1
    assert reader._cached_size == 9_000_000


async def test_nothing_of_the_proxy_is_left_open_in_the_process(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        reader = PdfReader(command=("sh", "-c", "cat >/dev/null; ls /proc/self/fd; printf '\\0'"))
        texts = await reader.read([NO_PDF], LIMITS, OWNER)
    assert len(texts[NO_PDF].split()) == 4  # three, and that of `ls`
