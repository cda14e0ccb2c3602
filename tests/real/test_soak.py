"""A short soak; `just soak` is the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.soak import soak


def test_after_many_requests_with_faults_nothing_is_left_and_none_is_lost(tmp_path: Path) -> None:
    assert asyncio.run(soak(300, tmp_path)) == []
