"""A serving process keeps the memory of a body for the next one."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from proxy.memory import tune_memory
tune_memory()
faults = []
for _ in range(20):
    bodies = [bytes(1_500_000) + b"." for _ in range(3)]
    del bodies
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[9])
"""


# Other allocators, such as that of macOS, have no such setting: `tune_memory` does nothing there.
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the setting is glibc's")
def test_the_memory_of_a_body_is_kept_for_the_next_one() -> None:
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert int(result.stdout) < 1000  # each body has 366 pages
