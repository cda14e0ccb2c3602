"""Counts the calls that code makes, which no noise on a machine changes."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from attrs import define, field

_NOT_COUNTED = (__file__, str(Path(__file__).with_name("backend.py")))


@define
class Calls:
    """In a `with`: the calls of Python and C functions on this thread, by name.

    A coroutine or a generator that goes on counts as a call. Neither the fake backend is
    counted nor this module.
    """

    by_name: Counter[str] = field(factory=Counter)

    def __enter__(self) -> Calls:
        gc.disable()  # what it finalizes would be counted
        sys.setprofile(self._see)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        sys.setprofile(None)
        gc.enable()

    @property
    def total(self) -> int:
        """How many there were."""
        return self.by_name.total()

    def beyond(self, other: Calls) -> Calls:
        """What was called more often than in `other`."""
        return Calls(self.by_name - other.by_name)

    def _see(self, frame: FrameType, event: str, argument: Any) -> None:
        if frame.f_code.co_filename in _NOT_COUNTED:
            return
        if event == "call":
            self.by_name[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            self.by_name[getattr(argument, "__qualname__", "?")] += 1


def listing(calls: Calls, times: int = 1) -> str:
    """The calls per repetition by name, the most frequent first. `times` is the repetitions."""
    most = calls.by_name.most_common(40)
    return "\n".join(f"{count / times:10.2f}  {name}" for name, count in most)
