"""Publishes the metrics of this worker to the other workers of the proxy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from attrs import define

from pipeline.config.schema import Config
from stages.counters import Counters
from stages.metric_families import metric_families
from stages.routing.breaker import Breakers
from stages.shared_metrics import SharedMetrics

if TYPE_CHECKING:
    from prometheus_client.core import Metric

log = logging.getLogger("llm_proxy")

#: Seconds between two writes of a worker's metrics. A killed worker loses this much.
PUBLISH_INTERVAL = 0.5
#: prometheus_client's variable for the folder. `llm-proxy --workers` makes a folder of its own.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def folder_from(environ: Mapping[str, str]) -> Path | None:
    """Return the folder for the metrics of several processes under another ASGI server."""
    name = environ.get(FOLDER_VARIABLE)
    return Path(name) if name else None


async def share_metrics(
    folder: Path,
    counters: Counters,
    config: Callable[[], Config],
    interval: float = PUBLISH_INTERVAL,
) -> None:
    """Publish until cancelled, and a last time then. `config` returns the current one.

    If the disk is full, log it once, and try again until there is space.
    """
    publisher = _Publisher(folder, counters, config)
    try:
        while True:
            publisher.publish()
            await anyio.sleep(interval)
    finally:
        publisher.publish()
        publisher.close()


@define(eq=False)
class _Publisher:
    folder: Path
    counters: Counters
    config: Callable[[], Config]
    failed: bool = False

    def publish(self) -> None:
        try:
            if self.counters.shared is None:
                self.counters.shared = SharedMetrics(self.folder)
            self.counters.shared.publish(_families(self.config()))
        except OSError as error:
            if not self.failed:
                log.error(
                    "/metrics lacks numbers of this worker: %s in %s; check its free space",
                    error.strerror,
                    self.folder,
                )
            self.failed = True
        else:
            self.failed = False

    def close(self) -> None:
        shared, self.counters.shared = self.counters.shared, None
        if shared is not None:
            shared.close()


def _families(config: Config) -> Iterable[Metric]:
    sections = config.sections
    breakers: Breakers = sections["circuit_breaker"]
    states = breakers.states(anyio.current_time())
    is_up = sections["store"].is_up
    return metric_families(sections["metrics"], sections["backends"], states, is_up)
