"""What the tables say of one another, compared with what they hold: watermarks, bounds, counts, and which column is
which series. Rows on the wrong side of such a claim are there, whole, and nobody sees them.

Theory of operation. The steps of a layout, read from its spans and then from its hot rows, are the truth. From them
follows where the spans end, what the buckets of every level must hold, and from where to where its producer told.
"""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import blocks, series, shelves, spans, strata
from trainvitals_server.store.database import DAMAGE
from trainvitals_server.store.shelves import Shelf

Longs = NDArray[np.int64]
NOTHING = np.zeros((4, 0), np.int64)


class Truth(NamedTuple):
    """What the rows of a layout hold: `n` frames from step `first` to `last`, of which those up to `packed` are in
    spans (-1: none); and the buckets of level 0 that they make, as int64[4, k]: number, first and last step, frames."""

    n: int
    first: int
    last: int
    packed: int
    shape: Longs


def wrong(connection: sqlite3.Connection, run: str, producer: sqlite3.Row) -> Iterator[str]:
    """What is claimed of a producer's points and is not so, a line each. The connection must stay in one transaction,
    or a trainer that goes on makes the rows differ from what was claimed before."""
    truths = []
    whole = True
    for layout in series.layouts(connection, [producer["id"]]):
        try:
            yield from _layout(connection, run, layout)
            shelf = shelves.get(connection, layout.id)
            truth = _truth(connection, layout.id, 1 if shelf is None else shelf.width or 1)
            yield from _watermarks(connection, layout.id, shelf, truth)
            truths.append((layout, truth))
        except DAMAGE as error:
            whole = False
            yield f"how far layout {layout.id} has come cannot be read: {error}"
    if whole:
        yield from _producer(producer, truths)


def _producer(producer: sqlite3.Row, truths: list[tuple[series.Layout, Truth]]) -> Iterator[str]:
    """From which step to which it is shown, and how many frames it told itself."""
    told = [truth for _, truth in truths if truth.n]
    name = f"producer {producer['producer']}"
    ends = (min(one.first for one in told), max(one.last for one in told)) if told else (None, None)
    if (producer["first_step"], producer["last_step"]) != ends:
        said = f"{producer['first_step']} to {producer['last_step']}"
        yield f"{name} is said to have told steps {said}, its frames are from {ends[0]} to {ends[1]}"
    n = sum(truth.n for layout, truth in truths if layout.layout < series.OWN)
    if producer["frames"] != n:
        yield f"{name} is said to have told {producer['frames']} frames, it has {n}"


def _layout(connection: sqlite3.Connection, run: str, layout: series.Layout) -> Iterator[str]:
    """Which series its columns are, and in which blocks they are kept."""
    names = {row.id: (row.layer, row.kind, row.stat) for row in series.list_all(connection, run)}
    declared = [None if one is None else (one.layer, one.kind, one.stat) for one in layout.declared]
    if [names.get(one) for one in layout.columns.tolist()] != declared:
        yield f"the columns of layout {layout.id} are not the series that it declares"
    owned = blocks.of(connection, layout.id)
    kept = np.sort(np.concatenate([block.columns for block in owned])) if owned else None
    if kept is not None and not np.array_equal(kept, np.arange(len(layout.columns))):
        yield f"the columns of layout {layout.id} are not each in one of its blocks"


def _truth(connection: sqlite3.Connection, layout: int, width: int) -> Truth:
    """The steps of a layout's rows. Raises ValueError where a row says other steps than it holds."""
    some: list[Longs] = []
    n, packed, first, last = 0, -1, -1, -1
    for hot, row in _rows(connection, layout):
        if hot and row[0] <= packed:
            continue  # a leftover
        steps = np.frombuffer(row[3], "<i8") if hot else spans.unpack_steps(row[2], row[3])
        where = f"a row of {'frames' if hot else 'spans'} says {row[2]} frames of steps {row[0]} to {row[1]}"
        if len(steps) != row[2] or not len(steps) or (steps[0], steps[-1]) != (row[0], row[1]):
            raise ValueError(f"{where}, and holds {len(steps)} of others")
        if steps[0] <= last or (np.diff(steps) <= 0).any():
            raise ValueError(f"{where}, which do not follow step {last}")
        some.append(group(np.stack([steps, steps, steps, np.ones_like(steps)]), width))
        n, first, last = n + len(steps), int(steps[0]) if first < 0 else first, int(steps[-1])
        packed = packed if hot else last
    return Truth(n, first, last, packed, group(np.concatenate([NOTHING, *some], axis=1), 1))


def _rows(connection: sqlite3.Connection, layout: int) -> Iterator[tuple[bool, sqlite3.Row]]:
    """Whether it is hot, and first_step, last_step, n and steps of every row."""
    for table in ("spans", "frames"):
        sql = f"SELECT first_step, last_step, n, steps FROM {table} WHERE layout = ? ORDER BY first_step"  # noqa: S608
        for row in connection.execute(sql, (layout,)):
            yield table == "frames", row


def group(shape: Longs, factor: int) -> Longs:
    """The same in buckets `factor` times as wide; equal ones that follow one another are made one."""
    at = shape[0] // factor
    starts = np.flatnonzero(np.diff(at, prepend=at[:1] - 1))
    if not len(starts):
        return NOTHING
    ends = np.append(starts[1:], len(at)) - 1
    return np.stack([at[starts], shape[1][starts], shape[2][ends], np.add.reduceat(shape[3], starts)])


def _watermarks(connection: sqlite3.Connection, layout: int, shelf: Shelf | None, truth: Truth) -> Iterator[str]:
    """How far its spans and the levels of its pyramid reach."""
    name = f"layout {layout}"
    if shelf is None:
        if truth.n:
            yield f"{name} has frames, and nothing says how far they have come"
        return
    if shelf.packed != truth.packed:
        yield f"{name} is said to be in spans up to step {shelf.packed}, they end at {truth.packed}"
    if shelf.width is None:
        if truth.n and shelf.bucketed > truth.first:
            yield f"{name} is said to be in buckets before step {shelf.bucketed}, it has none"
        return
    if not 0 < shelf.width <= shelves.MAX_WIDTH or shelf.width & (shelf.width - 1):
        raise ValueError(f"expected a power of two as steps in a bucket, got {shelf.width}")
    reaches = shelves.reaches(connection, layout)
    block = min((one.id for one in blocks.of(connection, layout)), default=-1)
    ends = reaches | {0: shelf.bucketed}
    for level in sorted(ends):
        factor = 1 << (3 * level)
        end, steps = ends[level] // (shelf.width * factor), shelf.width_of(level)
        stored = strata.shape(connection, block, level, reaches.get(level, 0) // steps)
        if level == 0:
            fresh = _fresh(connection, layout, reaches.get(0, 0) // steps)
            stored = np.concatenate([stored, fresh], axis=1)
        expected = group(truth.shape, factor)
        if not np.array_equal(stored[:, stored[0] < end], expected[:, expected[0] < end]):
            said = f"{name} is said to be in buckets of {steps:,} steps before step {ends[level]}"
            yield f"{said}, which hold other frames than its rows"


def _fresh(connection: sqlite3.Connection, layout: int, low: int) -> Longs:
    """The buckets from number `low` on as ingest made them."""
    rows = connection.execute("SELECT shape FROM fresh_buckets WHERE layout = ? ORDER BY start", (layout,))
    found = np.concatenate([NOTHING, *(np.frombuffer(row[0], "<i8").reshape(4, -1) for row in rows)], axis=1)
    return found[:, found[0] >= low]
