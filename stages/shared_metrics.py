"""The metrics of several workers, in the files of prometheus_client's multiprocess mode.

Each worker has a slot of the folder, with three files. It writes its metrics to them, and any
worker reads the sums of all slots.

    file                     content                        when its worker is dead
    ----------------------   ----------------------------   ----------------------------------
    slot{n}.lock             locked while the worker runs   the system has released the lock
    counter_slot{n}.db       counters                       counts; the next owner adds to it
    histogram_slot{n}.db     histograms                     the same
    gauge_livesum_slot{n}.db gauges                         does not count; the next owner
                                                            replaces it

A new worker takes the first free slot, so there are never more files than workers at one time. No
process has to notice the death of another.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.mmap_dict import MmapedDict

#: The type of a metric, and the beginning of the name of its files.
_FILES = {"counter": "counter", "histogram": "histogram", "gauge": "gauge_livesum"}


@define(eq=False)
class SharedMetrics:
    """The metrics of this worker and of the others in `folder`. The owner calls `close`."""

    folder: Path
    slot: int = field(init=False)
    _lock: IO[bytes] = field(init=False)
    _files: dict[str, MmapedDict] = field(init=False)
    """By the type of metric."""
    _inherited: dict[str, float] = field(factory=dict, init=False)
    """The counts of earlier owners of the slot."""
    _written: dict[str, float] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.slot, self._lock = self._take_slot()
        self._files = {type: self._open(type) for type in _FILES}
        for type in ("counter", "histogram"):
            values = self._files[type].read_all_values()
            self._inherited |= {key: value for key, value, _ in values}

    def _take_slot(self) -> tuple[int, IO[bytes]]:
        slot = 0
        while (lock := _locked(self._path("lock", slot))) is None:
            slot += 1
        return slot, lock

    def _path(self, type: str, slot: int) -> Path:
        name = f"{_FILES[type]}_slot{slot}.db" if type in _FILES else f"slot{slot}.{type}"
        return self.folder / name

    def _open(self, type: str) -> MmapedDict:
        """Open the file of this slot. A new file appears with its header: others read at once."""
        from prometheus_client.mmap_dict import MmapedDict

        path = self._path(type, self.slot)
        if type != "gauge" and path.exists():
            return MmapedDict(str(path))
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        values = MmapedDict(str(temporary))
        temporary.replace(path)
        return values

    def publish(self, families: Iterable[Metric]) -> None:
        """Write this worker's metrics. Gauges that are missing become 0."""
        from prometheus_client.mmap_dict import mmap_key

        gauges = dict.fromkeys(self._files["gauge"]._positions, 0.0)
        for family in families:
            for sample in family.samples:
                names, values = list(sample.labels), list(sample.labels.values())
                key = mmap_key(family.name, sample.name, names, values, family.documentation)
                if family.type == "gauge":
                    gauges[key] = sample.value
                else:
                    self._write(family.type, key, sample.value + self._inherited.get(key, 0))
        for key, value in gauges.items():
            self._write("gauge", key, value)

    def _write(self, type: str, key: str, value: float) -> None:
        if self._written.get(key) != value:
            self._written[key] = value
            self._files[type].write_value(key, value, time.time())

    def sums(self) -> Iterator[Metric]:
        """The metrics of all workers, without the gauges of dead ones."""
        from prometheus_client.multiprocess import MultiProcessCollector

        paths = [*self.folder.glob("counter_*.db"), *self.folder.glob("histogram_*.db")]
        paths += [path for path in self.folder.glob("gauge_*.db") if self._is_live(path)]
        # The files have Prometheus's cumulative buckets, so they must not be accumulated again.
        yield from MultiProcessCollector.merge(map(str, sorted(paths)), accumulate=False)

    def _is_live(self, gauges: Path) -> bool:
        slot = int(gauges.stem.rpartition("slot")[2])
        lock = None if slot == self.slot else _locked(self._path("lock", slot))
        if lock is None:
            return True
        lock.close()
        return False

    def close(self) -> None:
        """Release the slot."""
        for file in self._files.values():
            file.close()
        self._lock.close()


def _locked(path: Path) -> IO[bytes] | None:
    """Open and lock a file; None if another process has locked it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
