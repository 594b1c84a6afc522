"""Compaction: hot frames become spans and chunks, fresh buckets rows of a level, and each level the next.

`plan` looks at one layout in a snapshot, does what is dear (reading, folding, compressing) and answers with small jobs
for the writer, in stages: those of one may be handed in together, the next only once all of them are on the disk.
Nothing counts before a watermark has been moved, in the transaction that makes it true; until then the rows it was made
of are the truth, and afterwards they are leftovers that nobody reads. So whatever is killed between two jobs, or inside
one, loses nothing and doubles nothing: it is done again, over what it left.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import backlog, blocks, frames, fresh, series, shelves, spans, strata
from trainvitals_server.store.course import Course, join, widen
from trainvitals_server.store.series import Layout
from trainvitals_server.store.shelves import Shelf
from trainvitals_server.store.stretch import join as join_frames

Job = Callable[[sqlite3.Connection], None]
Stage = list[Job]

SPAN_FRAMES = 1024  # in a span; fewer where a layout is so wide
SPAN_VALUES = 2 << 20  # that they would be more values than this
LEAST_FRAMES = 64
JOB_BYTES = 2 << 20  # written by one job, so that nobody waits long for an ack
DROP_BYTES = 8 << 20  # deleted by one job: it writes little
TOGETHER = 16  # blocks whose buckets are in memory at once


class Rise(NamedTuple):
    """The next row of a level: `shelves.PER_ROW` buckets from number `start` on, made of what is below."""

    level: int
    start: int


def plan(connection: sqlite3.Connection, layout_id: int, *, idle: bool = False) -> list[Stage]:
    """What to do next about a layout (row id); nothing where nothing is due. Of one to which no frames come (`idle`)
    what would not fill a span is compacted too."""
    shelf, layout = shelves.get(connection, layout_id), series.layout_by_id(connection, layout_id)
    if shelf is None or layout is None:
        return []
    if shelf.behind:
        return [[backlog.plan(connection, shelf, len(layout.columns))]]
    reaches = shelves.reaches(connection, layout_id)
    done = reaches.get(0, 0) // shelf.width_of(0)
    if frames.has_leftovers(connection, shelf) or fresh.has_leftovers(connection, layout_id, done):
        return [[partial(_drop, layout=layout_id)]]
    full = min(SPAN_FRAMES, max(LEAST_FRAMES, SPAN_VALUES // len(layout.columns)))
    due = shelf.waiting >= full or (idle and shelf.waiting > 0)
    rise = _next_rise(connection, shelf, reaches)
    if not due and rise is None:
        return []
    owned = blocks.of(connection, layout_id)
    if not owned:
        return [[partial(blocks.make, layout=layout)]]
    return _rise(connection, shelf, layout, owned, rise) if rise else _pack(connection, shelf, layout, owned, full)


def _drop(connection: sqlite3.Connection, layout: int) -> None:
    """Delete a bounded part of what nobody reads any more."""
    shelf = shelves.get(connection, layout)
    if shelf is not None:
        frames.drop_leftovers(connection, shelf, DROP_BYTES)
        done = shelves.reaches(connection, layout).get(0, 0) // shelf.width_of(0)
        fresh.drop_leftovers(connection, layout, done, DROP_BYTES)


def _pack(
    connection: sqlite3.Connection, shelf: Shelf, layout: Layout, owned: Sequence[blocks.Block], full: int
) -> list[Stage]:
    """The next span: whole rows of frames that are in buckets."""
    some = []
    for row in frames.rows(connection, shelf):
        some.append(frames.unpack(row, len(layout.columns)))
        if sum(len(one.steps) for one in some) >= full:
            break
    if not some:
        return []
    stretch = join_frames(some)
    coded = ((block.id, *spans.encode(stretch, block.columns)) for block in owned)
    jobs = _in_parts(coded, partial(_add_chunks, first_step=int(stretch.steps[0])))
    publish = partial(_publish_span, shelf=shelf, steps=stretch.steps, times=stretch.times)
    return [jobs, [publish], [partial(_drop, layout=layout.id)]]


def _add_chunks(connection: sqlite3.Connection, some: list[tuple[int, bytes, bytes | None]], first_step: int) -> None:
    for block, values, present in some:
        spans.add_chunk(connection, block, first_step, values, present)


def _publish_span(
    connection: sqlite3.Connection, shelf: Shelf, steps: NDArray[np.int64], times: NDArray[np.float64]
) -> None:
    now = shelves.get(connection, shelf.layout)
    if now is not None and now.packed == shelf.packed:
        spans.add(connection, shelf.layout, steps, times)
        shelves.note_packed(connection, shelf.layout, int(steps[-1]), len(steps))


def _next_rise(connection: sqlite3.Connection, shelf: Shelf, reaches: dict[int, int]) -> Rise | None:
    """The lowest level of which a whole row can be made now."""
    if shelf.width is None:
        return None
    below, level = shelf.bucketed, 0
    while level <= shelf.top() and below > 0:
        steps, reach = shelf.width_of(level), reaches.get(level, 0)
        if below >= reach + steps * shelves.PER_ROW:
            first = _first_below(connection, shelf, level, reach // steps)
            start = None if first is None else first // shelves.PER_ROW * shelves.PER_ROW
            if start is not None and start + shelves.PER_ROW <= below // steps:
                return Rise(level, start)
        below, level = reach, level + 1
    return None


def _first_below(connection: sqlite3.Connection, shelf: Shelf, level: int, low: int) -> int | None:
    """The first bucket of a level, from number `low` on, for which there is anything below it."""
    if level == 0:
        return fresh.first_start(connection, shelf.layout, low)
    first = strata.first_start(connection, shelf.layout, level - 1, low * shelves.FAN)
    return None if first is None else first // shelves.FAN


def _rise(
    connection: sqlite3.Connection, shelf: Shelf, layout: Layout, owned: Sequence[blocks.Block], rise: Rise
) -> list[Stage]:
    """The rows of a level that can be made now, one for each block."""
    coded = _encode_rise(connection, shelf, len(layout.columns), owned, rise)
    jobs = _in_parts(coded, partial(_add_buckets, rise=rise))
    reach = (rise.start + shelves.PER_ROW) * shelf.width_of(rise.level)
    publish = partial(shelves.note_reach, layout=shelf.layout, level=rise.level, reach=reach)
    return [jobs, [publish]]


def _encode_rise(
    connection: sqlite3.Connection, shelf: Shelf, width: int, owned: Sequence[blocks.Block], rise: Rise
) -> Iterator[tuple[int, strata.Coded]]:
    for at in range(0, len(owned), TOGETHER):
        some = owned[at : at + TOGETHER]
        columns = np.concatenate([block.columns for block in some])
        course = _below(connection, shelf, width, owned, columns, rise)
        ends = np.cumsum([0, *(len(block.columns) for block in some)]).tolist()
        for place, block in enumerate(some):
            yield block.id, strata.encode(course, slice(ends[place], ends[place + 1]))


def _below(
    connection: sqlite3.Connection,
    shelf: Shelf,
    width: int,
    owned: Sequence[blocks.Block],
    columns: NDArray[np.int64],
    rise: Rise,
) -> Course:
    """The buckets that a row will hold, for these columns."""
    low, high = rise.start, rise.start + shelves.PER_ROW
    if rise.level == 0:
        return join(list(fresh.read(connection, shelf, width, low, high, columns)))
    picks, steps = blocks.picks(owned, columns), shelf.width_of(rise.level - 1)
    found = strata.read(connection, picks, rise.level - 1, steps, low * shelves.FAN, high * shelves.FAN, len(columns))
    return join([widen(one, shelf.width_of(rise.level)) for one in found])


def _add_buckets(connection: sqlite3.Connection, some: list[tuple[int, strata.Coded]], rise: Rise) -> None:
    for block, coded in some:
        strata.add(connection, block, rise.level, rise.start, coded)


def _in_parts(rows: Iterator[tuple], job: Callable[..., None]) -> Stage:  # type: ignore[type-arg]
    """Jobs that add the rows, each about `JOB_BYTES` of them."""
    jobs: list[Job] = []
    some: list[tuple] = []  # type: ignore[type-arg]
    size = 0
    for row in rows:
        some.append(row)
        size += _size(row)
        if size >= JOB_BYTES:
            jobs.append(partial(job, some=some))
            some, size = [], 0
    return [*jobs, partial(job, some=some)] if some else jobs


def _size(row: object) -> int:
    if isinstance(row, tuple):
        return sum(map(_size, row))
    return len(row) if isinstance(row, bytes) else 0
