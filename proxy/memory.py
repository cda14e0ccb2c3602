"""Sets the garbage collector and the allocator of a serving process."""

from __future__ import annotations

import ctypes
import gc

# New objects that trigger the garbage collector. Requests create few cycles. Python's default of
# 700 would run it several times per request: a tenth of the time.
_YOUNG_OBJECTS = 10_000
# Young collections per collection of the middle generation, and middle ones per full collection.
# With 10 young ones a middle one takes 50 ms while large bodies are read; with 2 it takes 9 ms.
_OLDER_GENERATIONS = (2, 40)

# Parameters of glibc's mallopt(3), and bytes. By default, the memory of a body of some megabytes
# returns to the system after each step, and comes back page by page: half of the CPU time of such a
# request. Blocks over 8 MB, and free memory over 32 MB at the end of the heap, still return.
_TRIM_THRESHOLD = (-1, 32 * 1024 * 1024)
_MMAP_THRESHOLD = (-3, 8 * 1024 * 1024)


def tune_memory() -> None:
    """Set both. An allocator that is not glibc's, as on macOS, is unchanged."""
    gc.set_threshold(_YOUNG_OBJECTS, *_OLDER_GENERATIONS)
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # macOS, musl; TypeError: Windows
        return
    for parameter in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
        mallopt(*parameter)
