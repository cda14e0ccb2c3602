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

The files are mapped into memory. On a full disk a write to a new page of such a file would end the
process with SIGBUS. So space is allocated first.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from attrs import define, field

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.mmap_dict import MmapedDict

#: The type of a metric, and the beginning of the name of its files.
_FILES = {"counter": "counter", "histogram": "histogram", "gauge": "gauge_livesum"}
#: Bytes of a new file. It grows.
_NEW_FILE = 4096
#: Most bytes of a key's entry in a file, besides the key: its length, padding, value and time.
_ENTRY = 32
#: Bytes of the smallest blocks of file systems. A written byte allocates its block.
_BLOCK = 512
#: The system or the file system has no posix_fallocate: musl, NFS, some overlays.
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
#: Takes a descriptor, the start and the number of bytes. macOS has none.
_FALLOCATE: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)


def allocate(
    descriptor: int,
    start: int,
    size: int,
    fallocate: Callable[[int, int, int], None] | None = _FALLOCATE,
) -> None:
    """Allocate space, and extend the file to it; its contents stay. Raises OSError.

    Without `fallocate`, write a byte of each block again, as glibc does.
    """
    if fallocate:
        try:
            fallocate(descriptor, start, size)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
        else:
            return
    end = start + size
    for offset in (*range(start, end, _BLOCK), end - 1):
        os.pwrite(descriptor, os.pread(descriptor, 1, offset) or b"\0", offset)


@define(eq=False)
class SharedMetrics:
    """The metrics of this worker and of the others in `folder`. The owner calls `close`.

    It and `publish` raise OSError if the disk is full.
    """

    folder: Path
    allocate: Callable[[int, int, int], None] = allocate
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
        with temporary.open("wb") as file:
            self.allocate(file.fileno(), 0, _NEW_FILE)
        values = MmapedDict(str(temporary))
        temporary.replace(path)
        return values

    def publish(self, families: Iterable[Metric]) -> None:
        """Write this worker's metrics. Gauges that are missing become 0. Raises OSError."""
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
            file = self._files[type]
            if key not in file._positions:
                end = file._used + len(key.encode()) + _ENTRY
                self.allocate(file._f.fileno(), 0, end)
            file.write_value(key, value, time.time())
            self._written[key] = value

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
