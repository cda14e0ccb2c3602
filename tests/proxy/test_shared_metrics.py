"""The metrics of a worker, while they cannot be written."""

from __future__ import annotations

from pathlib import Path

import anyio.lowlevel
import pytest

from pipeline.task_groups import task_group
from proxy.config import read
from proxy.shared_metrics import share_metrics

CONFIG = """
models: {}
pipelines:
  metrics: {route: GET /metrics, stages: [authenticate: {keys: [some-key]}, metrics]}
"""


async def test_a_failed_write_is_logged_once_and_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "pipelines.yaml"
    file.write_text(CONFIG)
    config = read(str(file), environ={})
    folder, counters = tmp_path / "folder", config.sections["metrics"]

    async with task_group() as group:
        group.start_soon(share_metrics, folder, counters, lambda: config, 0)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert not counters.shared
        folder.mkdir()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert counters.shared
        group.cancel_scope.cancel()
    assert not counters.shared
    (record,) = caplog.records
    assert record.getMessage() == (
        f"/metrics lacks numbers of this worker: No such file or directory in {folder}; "
        "check its free space"
    )
