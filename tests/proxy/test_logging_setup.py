"""The log, on real pipes: it does not wait for who reads it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from attrs import define, field

from proxy.logging_setup import NonBlockingHandler


@define(eq=False)
class Pipe:
    """A log into a pipe, which is only read on request."""

    read_end: int
    write_end: int
    handler: NonBlockingHandler = field(init=False)
    log: logging.Logger = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.handler = NonBlockingHandler(self.write_end, max_pending=400_000)
        self.log = logging.Logger("of a test")
        self.log.addHandler(self.handler)

    def until(self, words: str) -> list[str]:
        """Read up to a line with these words; the lines."""
        got = b""
        while words.encode() not in got or not got.endswith(b"\n"):
            got += os.read(self.read_end, 65536)
        return got.decode().splitlines()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe(*os.pipe())
    yield made
    os.close(made.read_end)  # ends a thread that writes
    made.handler.flush()
    os.close(made.write_end)


def numbered(count: int) -> list[str]:
    return [f"{n} {'x' * 90}" for n in range(count)]


def test_a_line_is_in_the_pipe_when_it_is_logged(pipe: Pipe) -> None:
    os.set_blocking(pipe.read_end, False)
    pipe.log.info("%s of %d", "one", 2)
    assert os.read(pipe.read_end, 100) == b"one of 2\n"


def test_row_d5_unread_lines_are_buffered(pipe: Pipe) -> None:
    lines = [*numbered(3000), "the last"]
    for line in lines:
        pipe.log.info(line)
    assert pipe.until("the last") == lines
    pipe.handler.flush()
    os.set_blocking(pipe.read_end, False)
    pipe.log.info("at once again")
    assert os.read(pipe.read_end, 100) == b"at once again\n"


def test_row_d5_lines_over_the_limit_are_dropped_and_counted(pipe: Pipe) -> None:
    lines = numbered(20_000)
    for line in lines:
        pipe.log.info(line)
    read = pipe.until("log lines: the log")
    pipe.handler.flush()
    pipe.log.info("later")
    read += pipe.until("later")
    dropped = [int(line.split()[1]) for line in read if "dropped" in line]
    kept = [line for line in read if line.endswith("x")]
    assert len(kept) + sum(dropped) == len(lines)
    assert {*kept} <= {*lines}  # whole
    assert kept == sorted(kept, key=lambda line: int(line.split()[0]))
    assert read[-1] == "later"


def test_row_d5_a_long_traceback_is_complete_and_in_order(pipe: Pipe) -> None:
    pipe.log.info("before")
    try:
        raise ValueError("x" * 300_000)
    except ValueError:
        pipe.log.exception("it failed")
    pipe.log.info("the last")
    before, failed, *trace, error, after = pipe.until("the last")
    assert (before, failed, after) == ("before", "it failed", "the last")
    assert trace[0] == "Traceback (most recent call last):"
    assert error == "ValueError: " + "x" * 300_000


def test_a_closed_reader_does_no_harm() -> None:
    read_end, write_end = os.pipe()
    pipe = Pipe(read_end, write_end)
    for line in numbered(1000):  # so that a thread writes
        pipe.log.info(line)
    os.close(read_end)
    pipe.handler.flush()
    pipe.log.info("to nobody")
    os.close(write_end)


def test_wrong_arguments_are_reported_and_raise_nothing(
    pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe.log.info("%d", "no number")
    assert "no number" in capsys.readouterr().err
