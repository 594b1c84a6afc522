"""Buckets of level 0 as ingest makes them: rows for all columns of a layout, in the transaction of their frames."""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import checksum, codec, shelves
from trainvitals_server.store.course import Counts, Course, lay, plain_counts
from trainvitals_server.store.stretch import Stretch

STAGGER = 16  # layouts take turns
READ_CELLS = 1 << 20  # buckets x series that are put into one course


def completes(shelf: shelves.Shelf, last_step: int) -> bool:
    """Whether a frame at `last_step` is behind the bucket that is being filled, far enough for this layout: a thousand
    trainers that began together would otherwise complete theirs in the same moment, every `BASE` frames (measured: acks
    of up to 1.4 s then)."""
    if shelf.width is None:
        return False
    return last_step >= shelf.bucketed + shelf.width + shelf.layout % STAGGER * shelf.width // STAGGER


def add(connection: sqlite3.Connection, shelf: shelves.Shelf, stretch: Stretch) -> None:
    """Store the buckets that these frames complete; they begin where the last bucket ended."""
    assert shelf.width is not None  # noqa: S101  # asked by the caller
    reach = int(stretch.steps[-1]) // shelf.width * shelf.width
    done = stretch.within(0, reach - 1)
    if len(done.steps):
        store(connection, shelf.layout, lay(done, shelf.width))
    shelves.advance(connection, shelf.layout, reach, len(done.steps))


def store(connection: sqlite3.Connection, layout: int, course: Course) -> None:
    """Write rows, none of which lies across the rows of table `buckets` that they will become."""
    cuts = np.flatnonzero(np.diff(course.at // shelves.PER_ROW)) + 1
    for low, high in zip([0, *cuts.tolist()], [*cuts.tolist(), len(course.at)], strict=True):
        one = course.part(slice(low, high))
        shape = np.stack([one.at, one.heads, one.tails, one.frames])
        mean = (one.sum / np.maximum(one.finite(), 1)).astype(np.float32)
        edges = np.stack([one.min, one.max, one.first, one.last, mean])
        odd = None if one.odd is None else codec.pack(one.odd)
        blobs = shape.astype("<i8").tobytes(), edges.astype("<f4").tobytes(), odd
        connection.execute(
            "INSERT INTO fresh_buckets (layout, start, shape, edges, odd, checksum) VALUES (?, ?, ?, ?, ?, ?)",
            (layout, int(one.at[0]), *blobs, checksum.make(*blobs)),
        )


def first_start(connection: sqlite3.Connection, layout: int, low: int) -> int | None:
    """Number of the first bucket of the first row at or after bucket `low`."""
    sql = "SELECT min(start) FROM fresh_buckets WHERE layout = ? AND start >= ?"
    row = connection.execute(sql, (layout, low)).fetchone()
    return None if row[0] is None else int(row[0])


def has_leftovers(connection: sqlite3.Connection, layout: int, done: int) -> bool:
    """Whether there are rows before bucket `done`."""
    sql = "SELECT 1 FROM fresh_buckets WHERE layout = ? AND start < ? LIMIT 1"
    return connection.execute(sql, (layout, done)).fetchone() is not None


def drop_leftovers(connection: sqlite3.Connection, layout: int, done: int, most: int) -> None:
    """Delete about `most` bytes of such rows."""
    size = 0
    found = connection.execute(
        "SELECT id, length(edges) FROM fresh_buckets WHERE layout = ? AND start < ? ORDER BY start LIMIT 1024",
        (layout, done),
    )
    for row in found.fetchall():
        connection.execute("DELETE FROM fresh_buckets WHERE id = ?", (row[0],))
        size += row[1]
        if size >= most:
            break


def read(
    connection: sqlite3.Connection,
    shelf: shelves.Shelf,
    width: int,
    low: int,
    high: int,
    columns: NDArray[np.intp] | None = None,
) -> Iterator[Course]:
    """The buckets of a layout of `width` columns, numbers `low` to before `high`, about `READ_CELLS` at a time; of all
    columns or of some."""
    rows = connection.execute(
        "SELECT shape, edges, odd, checksum FROM fresh_buckets WHERE layout = ?1 AND start < ?3 AND start >= coalesce("
        "(SELECT max(start) FROM fresh_buckets WHERE layout = ?1 AND start <= ?2), ?2) ORDER BY start",
        (shelf.layout, low, high),
    )
    steps, some, cells = shelf.width_of(0), [], 0
    for row in rows:
        some.append(_unpack(row, width, columns))
        cells += some[-1].edges[0].size
        if cells >= READ_CELLS:
            yield from _within(_join(some, steps), low, high)
            some, cells = [], 0
    if some:
        yield from _within(_join(some, steps), low, high)


class _Row(NamedTuple):
    shape: NDArray[np.int64]  # [4, k]
    edges: NDArray[np.float32]  # [5, k, m]
    odd: Counts | None  # [6, k, m]


def _unpack(row: sqlite3.Row, width: int, columns: NDArray[np.intp] | None) -> _Row:
    checksum.verify(row[3], *row[:3])
    shape = np.frombuffer(row[0], "<i8").reshape(4, -1)
    k = shape.shape[1]
    edges = np.frombuffer(row[1], "<f4").reshape(5, k, width)
    odd = None if row[2] is None else codec.unpack_integers(row[2], (6, k, width))
    if columns is not None:
        edges, odd = edges[:, :, columns], None if odd is None else odd[:, :, columns]
    return _Row(shape, edges, odd)


def _join(some: list[_Row], steps: int) -> Course:
    """Rows that follow one another, put together before anything is made of them: there may be hundreds."""
    shape = np.concatenate([row.shape for row in some], axis=1)
    edges = np.concatenate([row.edges for row in some], axis=1)
    odd = None
    if any(row.odd is not None for row in some):
        m = edges.shape[2]
        spelled = [plain_counts(steps, row.shape, m) if row.odd is None else row.odd for row in some]
        odd = np.concatenate(spelled, axis=1)
    return with_mean(steps, shape, *edges, odd=odd)


def _within(course: Course, low: int, high: int) -> Iterator[Course]:
    first, last = np.searchsorted(course.at, [low, high])
    if first < last:
        yield course.part(slice(int(first), int(last)))


def with_mean(
    steps: int,
    shape: NDArray[np.int64],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    first: NDArray[np.float32],
    last: NDArray[np.float32],
    mean: NDArray[np.float32],
    *,
    odd: Counts | None,
) -> Course:
    """A course as it is stored: with the mean instead of the sum, which might not fit a float32."""
    made = Course(steps, shape[0], shape[1], shape[2], shape[3], low, high, first, last, mean.astype(np.float64), odd)
    np.multiply(made.sum, made.finite(), out=made.sum)
    return made
