"""A short run; `just soak-usage` is the long one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.soak.accounting import account


def test_the_usage_record_has_the_sums_of_the_backends(tmp_path: Path) -> None:
    assert asyncio.run(account(150, tmp_path)) == []
