"""A map: series by columns of steps, reduced to the few numbers a picture needs."""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import series
from trainvitals_server.store.buckets import Buckets
from trainvitals_server.store.history import Gap, Question, read_range

MAX_CELLS = 1_000_000  # rows x columns; a wider question gets wider columns
TOGETHER = 128  # series whose whole buckets are in memory at once
VALUES = ("min", "max", "first", "last")  # float32; NaN also where there is no such value
COUNTS = ("n_nan", "n_posinf", "n_neginf", "n_nonfinite")  # uint8
NO_VALUE, MANY = 255, 254  # of counts: no value at all; that many or more


class Heatmap(NamedTuple):
    """`planes` by name, each [rows, columns]; column i begins at step `start` + i * `width`."""

    low: int
    high: int
    start: int
    width: int
    columns: int
    planes: dict[str, NDArray[np.float32] | NDArray[np.uint8]]
    gaps: list[Gap]


def rows_of(connection: sqlite3.Connection, run: str, kind: str, stat: str) -> list[int]:
    """The series of one statistic, in forward order."""
    return [row.id for row in series.list_all(connection, run) if (row.kind, row.stat) == (kind, stat)]


def read(
    connection: sqlite3.Connection, question: Question, wanted: Sequence[int], columns: int, names: Sequence[str]
) -> Heatmap:
    """The map of the series `wanted` (ids) in at most so many columns, with the planes named."""
    points = max(1, min(columns, MAX_CELLS // max(len(wanted), 1)) // 2)
    pieces: list[dict[str, NDArray[np.float32] | NDArray[np.uint8]]] = []
    found = read_range(connection, question, wanted[:TOGETHER], points)
    pieces.append(_reduce(found.buckets, names))
    for at in range(TOGETHER, len(wanted), TOGETHER):
        some = read_range(connection, question, wanted[at : at + TOGETHER], points)
        pieces.append(_reduce(some.buckets, names))
    planes = {name: np.concatenate([piece[name] for piece in pieces]) for name in names}
    buckets = found.buckets
    start = buckets.base * buckets.width
    return Heatmap(found.low, found.high, start, buckets.width, len(buckets.n), planes, found.gaps)


def _reduce(buckets: Buckets, names: Sequence[str]) -> dict[str, NDArray[np.float32] | NDArray[np.uint8]]:
    return {name: _values(buckets, name) if name in VALUES else _counts(buckets, name) for name in names}


def _values(buckets: Buckets, name: str) -> NDArray[np.float32]:
    values: NDArray[np.float32] = getattr(buckets, name).T.astype(np.float32)
    if name in ("min", "max"):
        values[np.isinf(values)] = np.nan  # none was finite
    return values


def _counts(buckets: Buckets, name: str) -> NDArray[np.uint8]:
    every = buckets.n_nan + buckets.n_posinf + buckets.n_neginf if name == "n_nonfinite" else getattr(buckets, name)
    found = np.minimum(every, MANY).astype(np.uint8)
    found[buckets.n == 0] = NO_VALUE
    return np.ascontiguousarray(found.T)
