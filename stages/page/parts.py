"""The part of one worker in the page, as JSON for the other workers, and the merging of parts.

    the page shows   the part of a worker                                        at most
    --------------   ---------------------------------------------------------   -----------------
    the list         Part: figures, its exchanges in flight, and the newest      LISTED of each,
                     that ended before a time                                    ROWS_BYTES of rows
    an exchange      the exchange, and its texts with `ui: {bodies: true}`;      the worker's limit
                     NOT_FOUND if it has no such exchange

Times are those of `time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter

import msgspec

from stages.backends.backend import Backend
from stages.exchange import Exchange
from stages.page.other_workers import NOT_FOUND
from stages.page.overview import Figures, Window, backend_figures, pipeline_figures, stage_figures
from stages.page.packing import pack, pack_row, unpack
from stages.page.recent import RecentExchanges
from stages.page.texts import Texts

#: Exchanges of one page of the list.
LISTED = 30
#: Bytes of rows in a part. The other rows are on the next page.
ROWS_BYTES = 100_000

_Rows = list[tuple[float, msgspec.Raw]]
"""Exchanges, packed, the newest first, each with the time by which rows are sorted."""


class Part(msgspec.Struct, array_like=True):
    """The part of one worker in the list, or those of all workers, merged."""

    pipelines: dict[str, Figures]
    stages: dict[str, Figures]
    """By `stage_key`."""
    backends: dict[str, Figures]
    running: _Rows
    """By the time of the request."""
    ended: _Rows
    """By the time of the end."""
    older: bool
    """Whether there are exchanges before the last one of `ended`."""
    number: int
    used_bytes: int
    """The exchanges in memory."""


_DECODER = msgspec.json.Decoder(Part)


def in_flight(recent: RecentExchanges, before: float | None) -> Iterator[Exchange]:
    """Yield the newest exchanges in flight of this worker; they are on the first page only."""
    return islice(reversed(recent.running.values()), LISTED if before is None else 0)


def part_of(recent: RecentExchanges, backends: Mapping[str, Backend], before: float | None) -> Part:
    """Return the part of this worker, without `running`."""
    now = time.monotonic()
    window = Window.of(recent.samples, now, recent.begun_within_a_minute(now))
    pipelines = pipeline_figures(window, recent.running.values())
    newest = list(recent.newest(LISTED + 1, before))
    ended = _within_limit(map(pack_row, newest[:LISTED]))
    return Part(
        pipelines,
        stage_figures(window, pipelines),
        backend_figures(backends, window),
        [],
        ended,
        older=len(newest) > len(ended),
        number=recent.counts["number"],
        used_bytes=recent.counts["bytes"],
    )


def _within_limit(rows: Iterable[tuple[float, bytes]]) -> _Rows:
    """Return the first rows, at least one."""
    kept: _Rows = []
    limit = ROWS_BYTES
    for at, data in rows:
        limit -= len(data)
        if kept and limit < 0:
            break
        kept.append((at, msgspec.Raw(data)))
    return kept


def merged(parts: Sequence[Part]) -> Part:
    """Return what the page shows of these workers."""
    # A part with older rows may have some after those of the other parts: they are on a later page.
    # Rows of the same time are on the same page.
    ended = _newest(part.ended for part in parts)
    incomplete = [ended[:LISTED], *(part.ended for part in parts if part.older)]
    since = max((rows[-1][0] for rows in incomplete if rows), default=0.0)
    shown = [row for row in ended if row[0] >= since]
    return Part(
        _sums(part.pipelines for part in parts),
        _sums(part.stages for part in parts),
        _sums(part.backends for part in parts),
        _newest(part.running for part in parts)[:LISTED],
        shown,
        older=len(shown) < len(ended) or any(part.older for part in parts),
        number=sum(part.number for part in parts),
        used_bytes=sum(part.used_bytes for part in parts),
    )


def _newest(rows: Iterable[_Rows]) -> _Rows:
    return sorted((row for each in rows for row in each), key=itemgetter(0), reverse=True)


def _sums(parts: Iterable[Mapping[str, Figures]]) -> dict[str, Figures]:
    sums: dict[str, Figures] = defaultdict(Figures)
    for part in parts:
        for name, figures in part.items():
            sums[name] += figures
    return sums


def respond(
    recent: RecentExchanges,
    backends: Mapping[str, Backend],
    exchange: str | None,
    before: float | None,
) -> bytes:
    """Return the part of this worker for another one, which sent a query: see Ask."""
    if exchange is None:
        part = part_of(recent, backends, before)
        rows = (pack_row(pack(each, with_times=False)) for each in in_flight(recent, before))
        part.running = _within_limit(rows)
        return msgspec.json.encode(part)
    own, texts = recent.find(exchange), recent.texts(exchange) or Texts((), (), 0)
    return NOT_FOUND if own is None else b"[%b,%b]" % (pack(own), texts.encoded())


def list_part(data: bytes) -> Part:
    """Return the part in the list that `respond` returned.

    It unpacks one row of each kind: the same version of the code has made the others.
    """
    part = _DECODER.decode(data)
    for _, row in (*part.running[:1], *part.ended[:1]):
        unpack(bytes(row))
    return part


def exchange_part(data: bytes) -> tuple[Exchange, Texts]:
    """Return the exchange and the texts that `respond` returned."""
    exchange, texts = msgspec.json.decode(data, type=tuple[msgspec.Raw, msgspec.Raw])
    return unpack(bytes(exchange)), Texts.decoded(bytes(texts))
