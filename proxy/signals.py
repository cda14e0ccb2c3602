"""What signals do: end the proxy, at once the second time; SIGHUP, when its terminal is gone."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM)


def end_at_once_on_a_second_signal(worker: bool) -> None:
    """Let a second signal that asks for the end do so at once; the first lets requests finish.

    Not by the default action: process 1 of a container has none. A worker leaves Ctrl-C to its
    supervisor, who tells it. SIGHUP does no harm from here on; what it does comes later.
    """

    def first(number: int, frame: FrameType | None) -> None:
        for each in _ENDING:
            signal.signal(each, lambda number, _: os._exit(128 + number))
        before[number](number, frame)

    before: dict[int, Any] = {each: signal.signal(each, first) for each in _ENDING}
    if worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def has_terminal() -> bool:
    """Whether there is a terminal that this process belongs to."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
