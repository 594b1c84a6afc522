"""Compacted frames: steps and times by span, values by block, compressed."""

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import blocks, codec, limits
from trainvitals_server.store.shelves import Shelf
from trainvitals_server.store.stretch import Stretch

READ_VALUES = 2 << 20  # how many are put into one array before it is handed on

SELECT = (
    "SELECT first_step, last_step, n FROM spans WHERE layout = ?1 AND first_step <= ?3 AND first_step >= coalesce("
    "(SELECT max(first_step) FROM spans WHERE layout = ?1 AND first_step <= ?2), ?2) ORDER BY first_step"
)


class Span(NamedTuple):
    """Which frames a span holds."""

    first_step: int
    last_step: int
    n: int


def list_spans(connection: sqlite3.Connection, layout: int, low: int, high: int) -> list[Span]:
    """The spans of a layout that may hold frames of steps `low` to `high`, in order."""
    rows = connection.execute(SELECT, (layout, low, high))
    return [Span(*row) for row in rows if row[1] >= low]


def read(
    connection: sqlite3.Connection,
    shelf: Shelf,
    low: int,
    high: int,
    columns: NDArray[np.intp],
) -> Iterator[Stretch]:
    """The compacted frames of a layout from step `low` to `high`, in order, a few MiB at a time; columns as given."""
    found = list_spans(connection, shelf.layout, low, high) if shelf.packed >= low else []
    if not found:
        return
    for span in found:  # before there is room made for so many
        limits.check_frames(span.n, len(columns))
    picks = blocks.picks(blocks.of(connection, shelf.layout), columns)
    at = 0
    while at < len(found):
        end, size = at + 1, found[at].n
        while end < len(found) and (size + found[end].n) * len(columns) <= READ_VALUES:
            size += found[end].n
            end += 1
        stretch = _read(connection, shelf.layout, found[at:end], picks, len(columns)).within(low, high)
        if len(stretch.steps):  # or the range lies between two frames
            yield stretch
        at = end


def _read(
    connection: sqlite3.Connection, layout: int, some: list[Span], picks: list[blocks.Pick], width: int
) -> Stretch:
    steps, times = _places(connection, layout, some)
    values = np.empty((width, len(steps)), np.float32)
    present: NDArray[np.bool_] | None = None
    ends = np.cumsum([0, *(span.n for span in some)]).tolist()
    place = {span.first_step: cut for span, cut in zip(some, pairwise(ends), strict=True)}
    for pick in picks:
        rows = connection.execute(
            'SELECT first_step, "values", present FROM chunks WHERE block = ? AND first_step BETWEEN ? AND ?',
            (pick.block.id, some[0].first_step, some[-1].first_step),
        )
        seen = 0
        for first_step, data, bits in rows:
            if first_step not in place:
                continue  # left by work that was cut short
            seen += 1
            low, high = place[first_step]
            shape = len(pick.block.columns), high - low
            values[pick.places, low:high] = codec.unpack_floats(data, shape, pick.rows)
            if bits is not None:
                present = np.ones(values.shape, np.bool_) if present is None else present
                present[pick.places, low:high] = codec.unpack_bits(bits, shape, pick.rows)
        if seen != len(some):
            raise ValueError(f"expected {len(some)} chunks of block {pick.block.id}, got {seen}")
    return Stretch(steps, times, values.T, None if present is None else present.T)


def _places(
    connection: sqlite3.Connection, layout: int, some: list[Span]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows = connection.execute(
        "SELECT n, steps, times FROM spans WHERE layout = ? AND first_step BETWEEN ? AND ? ORDER BY first_step",
        (layout, some[0].first_step, some[-1].first_step),
    ).fetchall()
    steps, times = zip(*map(_unpack_places, rows), strict=True)
    return np.concatenate(steps), np.concatenate(times)


def _unpack_places(row: sqlite3.Row) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Steps and times of a row's `n, steps, times`."""
    return unpack_steps(row[0], row[1]), codec.unpack_doubles(row[2], (row[0],))


def unpack_steps(n: int, data: bytes) -> NDArray[np.int64]:
    """The steps of a span of `n` frames."""
    limits.check_frames(n)
    return codec.unpack_longs(data, (n,))


def encode(stretch: Stretch, columns: NDArray[np.int64]) -> tuple[bytes, bytes | None]:
    """A chunk of these columns: values, and which are there."""
    values = codec.pack(stretch.values[:, columns].T)
    present = None if stretch.present is None else stretch.present[:, columns].T
    return values, None if present is None or present.all() else codec.pack_bits(present)


def add_chunk(
    connection: sqlite3.Connection, block: int, first_step: int, values: bytes, present: bytes | None
) -> None:
    """Store a chunk, over what work that was cut short may have left. It counts once its span is there."""
    connection.execute(
        'INSERT OR REPLACE INTO chunks (block, first_step, "values", present) VALUES (?, ?, ?, ?)',
        (block, first_step, values, present),
    )


def add(connection: sqlite3.Connection, layout: int, steps: NDArray[np.int64], times: NDArray[np.float64]) -> None:
    """Store a span, whose chunks are all there."""
    connection.execute(
        "INSERT INTO spans (layout, first_step, last_step, n, steps, times) VALUES (?, ?, ?, ?, ?, ?)",
        (layout, int(steps[0]), int(steps[-1]), len(steps), codec.pack(steps), codec.pack(times)),
    )


def places_before(
    connection: sqlite3.Connection, layout: int, step: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """Steps and times of the last span that begins at or before `step`."""
    row = connection.execute(
        "SELECT n, steps, times FROM spans WHERE layout = ? AND first_step <= ? ORDER BY first_step DESC LIMIT 1",
        (layout, step),
    ).fetchone()
    return None if row is None else _unpack_places(row)


def next_step(connection: sqlite3.Connection, layout: int, step: int) -> int | None:
    """The first step after `step` in a span of a layout."""
    for span in list_spans(connection, layout, step, step + 1):
        if span.last_step > step:
            steps, _ = _places(connection, layout, [span])
            return int(steps[np.searchsorted(steps, step, "right")])
    row = connection.execute(
        "SELECT min(first_step) FROM spans WHERE layout = ? AND first_step > ?", (layout, step)
    ).fetchone()
    return None if row[0] is None else int(row[0])
