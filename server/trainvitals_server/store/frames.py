"""Hot frames, packed: one row holds consecutive frames of one layout, as they came. Prepared statements throughout.

Rows up to a layout's watermark `packed` are in spans already; here they are leftovers, and nobody reads them.
"""

import sqlite3
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import checksum, fresh, shelves
from trainvitals_server.store.stretch import Stretch as Stretch  # noqa: PLC0414  # callers name it here
from trainvitals_server.store.stretch import join

MAX_ROW_BYTES = 256 << 10  # so that reading one step never reads more than this
READ_BYTES = 8 << 20  # how much is joined into one array before it is handed on
TAIL_ROWS = 512  # with more rows than this in no bucket, ingest leaves them to the background

COLUMNS = 'n, steps, times, "values", present, checksum'
SELECT = (
    f"SELECT {COLUMNS} FROM frames WHERE layout = ?1 AND first_step > ?2"  # noqa: S608
    " AND first_step <= ?4 AND first_step >= coalesce("
    "(SELECT max(first_step) FROM frames WHERE layout = ?1 AND first_step <= ?3), ?3) ORDER BY first_step"
)


def add(connection: sqlite3.Connection, layout: int, stretch: Stretch) -> None:
    """Store a stretch, cut into rows of at most `MAX_ROW_BYTES`, with the buckets that it completes."""
    shelf = shelves.get(connection, layout) or shelves.make(connection, layout, int(stretch.steps[0]))
    if not shelf.behind:
        try:
            _fill(connection, shelf, stretch)
        except ValueError:  # a row before is damaged, which must not keep these out
            shelves.note_behind(connection, layout, behind=True)
    n, m = stretch.values.shape
    height = max(1, MAX_ROW_BYTES // max(4 * m, 1))
    for start in range(0, n, height):
        connection.execute(
            'INSERT INTO frames (layout, first_step, last_step, n, steps, times, "values", present, checksum)'
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (layout, *_row(stretch.part(slice(start, start + height)))),
        )


def _fill(connection: sqlite3.Connection, shelf: shelves.Shelf, stretch: Stretch) -> None:
    """Make the buckets that a new stretch completes, of it and of what is in no bucket yet. That is read back from its
    rows, so that nothing is lost where the server is killed; where it is much, the background shall do it."""
    settled = shelf if shelf.width else _settle(connection, shelf, stretch.steps)
    if settled is None or not fresh.completes(settled, int(stretch.steps[-1])):
        return
    width, first = stretch.values.shape[1], int(stretch.steps[0])
    if _much(connection, settled, first):
        shelves.note_behind(connection, settled.layout, behind=True)
        return
    before = list(read(connection, settled, width, settled.bucketed, first - 1))
    fresh.add(connection, settled, join([*before, stretch]))


def _much(connection: sqlite3.Connection, shelf: shelves.Shelf, first: int) -> bool:
    """Whether the frames before step `first` that are in no bucket are too many to be read back now."""
    rows, size = connection.execute(
        'SELECT count(*), coalesce(sum(size), 0) FROM (SELECT length("values") AS size FROM frames'
        " WHERE layout = ? AND first_step > ? AND first_step < ? LIMIT ?)",
        (shelf.layout, max(shelf.bucketed, shelf.packed), first, TAIL_ROWS),
    ).fetchone()
    return bool(rows >= TAIL_ROWS or size >= READ_BYTES // 2)


def _settle(connection: sqlite3.Connection, shelf: shelves.Shelf, steps: NDArray[np.int64]) -> shelves.Shelf | None:
    """The shelf with its width, chosen once there are enough frames to tell their stride."""
    known = np.concatenate([first_steps(connection, shelf.layout, shelves.BASE + 1), steps])[: shelves.BASE + 1]
    return shelves.settle(connection, shelf, known) if len(known) > shelves.BASE else None


def first_steps(connection: sqlite3.Connection, layout: int, most: int) -> NDArray[np.int64]:
    """The steps of a layout's first frames while they are hot."""
    rows = connection.execute(
        "SELECT steps FROM frames WHERE layout = ? ORDER BY first_step LIMIT ?", (layout, most)
    ).fetchall()
    return np.concatenate([np.zeros(0, np.int64), *(np.frombuffer(row[0], "<i8") for row in rows)])[:most]


def _row(part: Stretch) -> tuple[int, int, int, bytes, bytes, bytes, bytes | None, int]:
    present = part.present
    bits = None if present is None or present.all() else np.packbits(present, axis=1, bitorder="little").tobytes()
    steps, times = part.steps.astype("<i8").tobytes(), part.times.astype("<f8").tobytes()
    values = part.values.astype("<f4", copy=False).tobytes()
    ends = int(part.steps[0]), int(part.steps[-1])
    return (*ends, len(part.steps), steps, times, values, bits, checksum.make(steps, times, values, bits))


def read(
    connection: sqlite3.Connection,
    shelf: shelves.Shelf,
    width: int,
    low: int,
    high: int,
    columns: NDArray[np.intp] | None = None,
) -> Iterator[Stretch]:
    """The hot frames of a layout of `width` columns from step `low` to `high`, both included, in order, a few MiB at a
    time; of all columns or of some."""
    found = connection.execute(SELECT, (shelf.layout, shelf.packed, low, high))
    some: list[Stretch] = []
    size = 0
    for row in found:
        stretch = unpack(row, width, columns).within(low, high)
        if len(stretch.steps):
            some.append(stretch)
            size += stretch.values.nbytes
        if size >= READ_BYTES:
            yield join(some)
            some, size = [], 0
    if some:
        yield join(some)


def rows(connection: sqlite3.Connection, shelf: shelves.Shelf) -> Iterator[sqlite3.Row]:
    """The hot rows, for `unpack`, all of whose frames are in buckets, in order."""
    yield from connection.execute(
        f"SELECT {COLUMNS} FROM frames WHERE layout = ? AND first_step > ? AND last_step < ? ORDER BY first_step",  # noqa: S608
        (shelf.layout, shelf.packed, shelf.bucketed),
    )


def has_leftovers(connection: sqlite3.Connection, shelf: shelves.Shelf) -> bool:
    """Whether there are rows that are in spans already."""
    sql = "SELECT 1 FROM frames WHERE layout = ? AND first_step <= ? LIMIT 1"
    return connection.execute(sql, (shelf.layout, shelf.packed)).fetchone() is not None


def drop_leftovers(connection: sqlite3.Connection, shelf: shelves.Shelf, most: int) -> None:
    """Delete about `most` bytes of such rows."""
    size = 0
    found = connection.execute(
        'SELECT id, length("values") FROM frames WHERE layout = ? AND first_step <= ? ORDER BY first_step LIMIT 1024',
        (shelf.layout, shelf.packed),
    )
    for row in found.fetchall():
        connection.execute("DELETE FROM frames WHERE id = ?", (row[0],))
        size += row[1]
        if size >= most:
            break


def last_step(connection: sqlite3.Connection, layout: int) -> int | None:
    """The newest step of a layout, hot or not."""
    row = connection.execute(
        "SELECT last_step FROM frames WHERE layout = ? ORDER BY first_step DESC LIMIT 1", (layout,)
    ).fetchone()
    if row:
        return int(row[0])
    shelf = shelves.get(connection, layout)
    return shelf.packed if shelf is not None and shelf.packed >= 0 else None


def unpack(row: sqlite3.Row, width: int, columns: NDArray[np.intp] | None = None) -> Stretch:
    """A row's `COLUMNS` as arrays. Raises ValueError where they are not what was stored."""
    n: int = row[0]
    checksum.verify(row[5], *row[1:5])
    values = np.frombuffer(row[3], "<f4").reshape(n, width)
    present = None
    if row[4] is not None:
        bits = np.frombuffer(row[4], np.uint8).reshape(n, -1)
        present = np.unpackbits(bits, axis=1, count=width, bitorder="little").astype(np.bool_)
    if columns is not None:
        values, present = values[:, columns], None if present is None else present[:, columns]
    return Stretch(np.frombuffer(row[1], "<i8").reshape(n), np.frombuffer(row[2], "<f8").reshape(n), values, present)
