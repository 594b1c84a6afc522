"""A run cut into pieces that can be read one by one: some frames of one layout, as they are kept, hot or compacted.

This is for whoever goes through all points of a run, or through those of some series, in bounded memory. A step is told
once for each rank, by the newest producer that covers it.
"""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import limits, points, runs, series
from trainvitals_server.store.database import DAMAGE
from trainvitals_server.store.stretch import Stretch, join

HEIGHT = 8192  # frames in a piece, at most
MOST = 1 << 53  # no step is larger


class Piece(NamedTuple):
    """Frames of `layout` (row id) from step `low` to `high`, both included, about `n` of them: never more."""

    layout: int
    rank: int
    low: int
    high: int
    n: int
    columns: NDArray[np.int64]  # series ids


def list_pieces(connection: sqlite3.Connection, run: str, low: int = 0, high: int = MOST) -> list[Piece]:
    """Every piece of a run from step `low` to `high`, by rank, producer and layout, in the order of steps."""
    found: list[Piece] = []
    ranks = sorted({row["rank"] for row in runs.producer_rows(connection, run)})
    for rank in ranks:
        for segment in runs.segments(connection, run, rank, None):
            part = segment._replace(low=max(low, segment.low), high=min(high, segment.high))
            for layout in series.layouts(connection, [part.producer]):
                found += _cut(connection, layout, rank, part)
    return found


def _cut(connection: sqlite3.Connection, layout: series.Layout, rank: int, part: runs.Segment) -> Iterator[Piece]:
    """Neighbouring rows together, up to `HEIGHT` frames."""
    rows = connection.execute(
        "SELECT first_step, last_step, n FROM spans WHERE layout = ?1"
        " UNION ALL SELECT first_step, last_step, n FROM frames WHERE layout = ?1 AND first_step >"
        " coalesce((SELECT packed FROM shelves WHERE layout = ?1), -1) ORDER BY first_step",
        (layout.id,),
    )
    low = high = n = 0
    for first, last, count in rows:
        limits.check_frames(count)
        if last < part.low or first > part.high:
            continue
        if n and n + count > HEIGHT:
            yield Piece(layout.id, rank, low, high, n, layout.columns)
            n = 0
        low = max(first, part.low) if not n else low
        high, n = min(last, part.high), n + count
    if n:
        yield Piece(layout.id, rank, low, high, n, layout.columns)


def read(connection: sqlite3.Connection, piece: Piece, columns: NDArray[np.intp]) -> Stretch:
    """Some columns of a piece, as one stretch."""
    found = list(_stretches(connection, piece, columns))
    if found:
        return join(found)
    nothing = np.zeros((0, len(columns)), np.float32)
    return Stretch(np.zeros(0, np.int64), np.zeros(0), nothing, None)


def _stretches(connection: sqlite3.Connection, piece: Piece, columns: NDArray[np.intp]) -> Iterator[Stretch]:
    """The frames of a piece. Raises ValueError where there are more than it promised: rows that lie about their steps
    would else be read with every piece."""
    n = 0
    for one in points.read(connection, piece.layout, len(piece.columns), piece.low, piece.high, columns):
        n += len(one.steps)
        if n > piece.n:
            raise ValueError(f"expected at most {piece.n} frames, got more: rows overlap")
        yield one


def unreadable(connection: sqlite3.Connection, piece: Piece) -> Iterator[tuple[int, str]]:
    """The series (ids) of a piece that cannot be read, and why: asked one by one where not all can be read together."""
    everything = np.arange(len(piece.columns))
    if not _trouble(connection, piece, everything):
        return
    for column in everything:
        if reason := _trouble(connection, piece, everything[column : column + 1]):
            yield int(piece.columns[column]), reason


def _trouble(connection: sqlite3.Connection, piece: Piece, columns: NDArray[np.intp]) -> str:
    try:
        for _ in _stretches(connection, piece, columns):
            pass
    except DAMAGE as error:
        return str(error) or type(error).__name__
    return ""
