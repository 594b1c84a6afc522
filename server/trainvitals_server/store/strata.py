"""Compacted buckets, by block and level: rows of up to 128 buckets for up to 32 series."""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import blocks, codec, shelves
from trainvitals_server.store.course import Counts, Course, plain_counts
from trainvitals_server.store.fresh import with_mean

FIELDS = ("min", "max", "first", "last", "mean")
READ_CELLS = 1 << 20  # buckets x series that are put into one course
SHAPE_BYTES = 32  # of one bucket


class Coded(NamedTuple):
    """A row of table `buckets`, compressed, in the order of its columns from `shape` on."""

    shape: bytes
    odd: bytes | None
    max: bytes
    last: bytes
    min: bytes
    first: bytes
    mean: bytes


def encode(course: Course, columns: slice) -> Coded:
    """A row of these columns of a course."""
    mean = (course.sum / np.maximum(course.finite(), 1)).astype(np.float32)
    planes = [course.max, course.last, course.min, course.first, mean]
    coded = [codec.pack(plane[:, columns].T) for plane in planes]
    odd = None
    if course.odd is not None:
        own = course.odd[:, :, columns]
        odd = codec.pack(own.transpose(0, 2, 1)) if _is_odd(course, own) else None
    return Coded(codec.pack(np.stack([course.at, course.heads, course.tails, course.frames])), odd, *coded)


def _is_odd(course: Course, own: Counts) -> bool:
    return bool((own[0] != course.frames[:, None]).any() or own[1:4].any())


def add(connection: sqlite3.Connection, block: int, level: int, start: int, coded: Coded) -> None:
    """Store a row, over what work that was cut short may have left. It counts once its level reaches behind it."""
    connection.execute(
        'INSERT OR REPLACE INTO buckets (block, level, start, shape, odd, "max", "last", "min", "first", mean)'
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (block, level, start, *coded),
    )


def first_start(connection: sqlite3.Connection, layout: int, level: int, start: int) -> int | None:
    """The first row of a level at or after bucket `start`: the number it begins with."""
    row = connection.execute(
        "SELECT min(start) FROM buckets WHERE block = (SELECT min(id) FROM blocks WHERE layout = ?) AND level = ?"
        " AND start >= ?",
        (layout, level, start),
    ).fetchone()
    return None if row[0] is None else int(row[0])


def read(
    connection: sqlite3.Connection, picks: list[blocks.Pick], level: int, steps: int, low: int, high: int, width: int
) -> Iterator[Course]:
    """Buckets of a level, each of `steps` steps, numbers `low` to before `high`, for the `width` columns that are
    picked; at most `READ_CELLS` at a time."""
    rows = max(1, READ_CELLS // (width * shelves.PER_ROW))
    starts = [
        row[0]
        for row in connection.execute(
            "SELECT start FROM buckets WHERE block = ? AND level = ? AND start > ? AND start < ? ORDER BY start",
            (picks[0].block.id, level, low - shelves.PER_ROW, high),
        )
    ]
    for at in range(0, len(starts), rows):
        some = starts[at : at + rows]
        course = _read(connection, picks, level, steps, some, width)
        first, last = np.searchsorted(course.at, [low, high])
        if first < last:
            yield course.part(slice(int(first), int(last)))


def _read(
    connection: sqlite3.Connection, picks: list[blocks.Pick], level: int, steps: int, some: list[int], width: int
) -> Course:
    shape, cuts = _shape(connection, picks[0].block.id, level, some)
    planes = {field: np.empty((width, shape.shape[1]), np.float32) for field in FIELDS}
    odd: Counts | None = None
    for pick in picks:
        rows = connection.execute(
            'SELECT start, odd, "max", "last", "min", "first", mean FROM buckets'
            " WHERE block = ? AND level = ? AND start BETWEEN ? AND ?",
            (pick.block.id, level, some[0], some[-1]),
        )
        seen = 0
        for row in rows:
            seen += 1
            low, high = cuts[row[0]]
            form = len(pick.block.columns), high - low
            for field in FIELDS:
                planes[field][pick.places, low:high] = codec.unpack_floats(row[field], form, pick.rows)
            if row[1] is not None:
                odd = plain_counts(steps, shape, width).transpose(0, 2, 1).copy() if odd is None else odd
                found = codec.unpack_integers(row[1], (6, *form))
                odd[:, pick.places, low:high] = found[:, pick.rows]
        if seen != len(cuts):
            raise ValueError(f"expected {len(cuts)} rows of buckets of block {pick.block.id}, got {seen}")
    return with_mean(
        steps, shape, *(planes[field].T for field in FIELDS), odd=None if odd is None else odd.transpose(0, 2, 1)
    )


def _shape(
    connection: sqlite3.Connection, block: int, level: int, some: list[int]
) -> tuple[NDArray[np.int64], dict[int, tuple[int, int]]]:
    """Number, first and last step and frames of each bucket, and which of them are in which row."""
    rows = connection.execute(
        "SELECT start, shape FROM buckets WHERE block = ? AND level = ? AND start BETWEEN ? AND ? ORDER BY start",
        (block, level, some[0], some[-1]),
    ).fetchall()
    shapes = [unpack_shape(row[1]) for row in rows]
    ends = np.cumsum([0, *(shape.shape[1] for shape in shapes)]).tolist()
    cuts = {row[0]: (ends[place], ends[place + 1]) for place, row in enumerate(rows)}
    return np.concatenate(shapes, axis=1), cuts


def unpack_shape(data: bytes) -> NDArray[np.int64]:
    """Which buckets a row holds: int64[4, k]. Raises ValueError where they are more than a row has."""
    k = codec.size(data) // SHAPE_BYTES
    if not 0 < k <= shelves.PER_ROW:
        raise ValueError(f"expected 1 to {shelves.PER_ROW} buckets in a row, got {k}")
    return codec.unpack_longs(data, (4, k))


def shape(connection: sqlite3.Connection, block: int, level: int, end: int) -> NDArray[np.int64]:
    """Which buckets of a level are stored before number `end`, by one block: int64[4, k]."""
    rows = connection.execute(
        "SELECT shape FROM buckets WHERE block = ? AND level = ? AND start < ? ORDER BY start", (block, level, end)
    )
    found = np.concatenate([np.zeros((4, 0), np.int64), *(unpack_shape(row[0]) for row in rows)], axis=1)
    return found[:, found[0] < end]
