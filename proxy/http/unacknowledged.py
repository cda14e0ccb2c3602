"""How much of what was written to a client it has not got yet."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios


def unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """Bytes that wait here, and on Linux those in the system's buffer, too.

    The system takes more only when a third of its buffer is free, which a slow reader of some
    megabytes needs minutes for.
    """
    unsent = transport.get_write_buffer_size()
    try:
        descriptor = transport.get_extra_info("socket").fileno()
        (queued,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
    except (OSError, ValueError):  # closed, or another system
        queued = 0
    return unsent + int(queued)
