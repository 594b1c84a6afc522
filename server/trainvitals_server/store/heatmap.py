"""A map: series by columns of steps, reduced to the few numbers a picture needs."""

import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import series
from trainvitals_server.store.buckets import Buckets
from trainvitals_server.store.history import Gap, Question, gather, survey

MAX_CELLS = 1_000_000  # rows x columns; a wider question gets wider columns
TOGETHER = 128  # series whose whole buckets are in memory at once
VALUES = ("min", "max", "first", "last")  # float32; NaN also where there is no such value
COUNTS = ("n_nan", "n_posinf", "n_neginf", "n_nonfinite")  # uint8
ALL_BITS = 24  # of a float32's significand
NO_VALUE, MANY = 255, 254  # of counts: no value at all; that many or more


class Heatmap(NamedTuple):
    """`planes` by name, each [rows, columns]; column i begins at step `start` + i * `width`. `through`, `mark` and
    `since` are those of `history.Range`."""

    low: int
    high: int
    start: int
    width: int
    columns: int
    planes: dict[str, NDArray[np.float32] | NDArray[np.uint8]]
    gaps: list[Gap]
    through: int
    mark: str
    since: int | None


def rows_of(connection: sqlite3.Connection, run: str, kind: str, stat: str) -> list[int]:
    """The series of one statistic, in forward order."""
    return [row.id for row in series.list_all(connection, run) if (row.kind, row.stat) == (kind, stat)]


def read(
    connection: sqlite3.Connection,
    question: Question,
    wanted: Sequence[int],
    columns: int,
    names: Sequence[str],
    mark: str = "",
) -> Heatmap:
    """The map of the series `wanted` (ids) in at most so many columns, with the planes named; with the `mark` of an
    earlier answer only the columns that may have changed since."""
    most = max(2, min(columns, MAX_CELLS // max(len(wanted), 1)))
    found = survey(connection, question, wanted, most, mark)
    pieces: list[dict[str, NDArray[np.float32] | NDArray[np.uint8]]] = []
    for at in range(0, max(len(wanted), 1), TOGETHER):
        buckets = gather(connection, found, wanted[at : at + TOGETHER])
        pieces.append(_reduce(buckets, names))
    planes = {name: np.concatenate([piece[name] for piece in pieces]) for name in names}
    start, count = buckets.base * buckets.width, len(buckets.n)
    return Heatmap(
        found.low, found.high, start, found.width, count, planes, found.gaps, found.through, found.mark, found.since
    )


def rounded(found: Heatmap, bits: int) -> Heatmap:
    """The same with values of so many significant bits; what is not finite, or would not be then, stays."""
    if bits == ALL_BITS:
        return found
    planes = {name: _round(plane, bits) if name in VALUES else plane for name, plane in found.planes.items()}
    return found._replace(planes=planes)


def _round(values: NDArray[Any], bits: int) -> NDArray[np.float32]:
    drop = np.uint32(ALL_BITS - bits)
    half, mask = np.uint32(1) << (drop - np.uint32(1)), ~((np.uint32(1) << drop) - np.uint32(1))
    near = ((values.view(np.uint32) + half) & mask).view(np.float32)
    result: NDArray[np.float32] = np.where(np.isfinite(near) & np.isfinite(values), near, values)
    return result


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
