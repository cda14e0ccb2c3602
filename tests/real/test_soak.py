"""A short soak; `just soak` is the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.soak import soak


def test_many_requests_with_faults_leak_nothing(tmp_path: Path) -> None:
    assert asyncio.run(soak(300, tmp_path)) == []
