"""Reading the pyramid: any range of a layout from the widest buckets that fit, down to single frames at its ends.

Theory of operation. Level l has buckets of w * 8**l steps, aligned to multiples of it; level -1 are the frames. To
answer in buckets of W steps, the widest level with at most W is taken for all whole buckets inside the range as far as
it reaches; what is left of them, to the left and to the right, is asked of the level below. A level lags behind the one
below by less than one row, and a range has two ends, so each level contributes a bounded number of buckets however
long the run is.
"""

import sqlite3
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import blocks, fresh, points, shelves, strata
from trainvitals_server.store.course import Course, lay
from trainvitals_server.store.series import Outline


class Pyramid:
    """One layout's, for some of its columns, inside one snapshot."""

    def __init__(self, connection: sqlite3.Connection, layout: Outline, columns: NDArray[np.intp]) -> None:
        self._connection = connection
        self._layout = layout
        self._columns = columns
        self._shelf = shelves.get(connection, layout.id)
        self._reaches = shelves.reaches(connection, layout.id)
        owned = blocks.of(connection, layout.id)
        self._picks = blocks.picks(owned, columns) if owned else []

    def cover(self, low: int, high: int, width: int) -> Iterator[Course]:
        """Courses of at most `width` steps a bucket, a power of two, over steps `low` to `high`, both included."""
        if self._shelf is None or low > high:
            return
        level = -1
        while self._shelf.width and level < self._shelf.top() and self._shelf.width_of(level + 1) <= width:
            level += 1
        yield from self._cover(level, low, high, width)

    def _cover(self, level: int, low: int, high: int, width: int) -> Iterator[Course]:
        if low > high or self._shelf is None:
            return
        if level < 0:
            yield from self._raw(low, high, width)
            return
        steps = self._shelf.width_of(level)
        reach = self._shelf.bucketed if level == 0 else self._reaches.get(level, 0)
        first, end = -(-low // steps), min((high + 1) // steps, reach // steps)
        if first >= end:
            yield from self._cover(level - 1, low, high, width)
            return
        yield from self._cover(level - 1, low, first * steps - 1, width)
        yield from self._stored(level, first, end)
        yield from self._cover(level - 1, end * steps, high, width)

    def _stored(self, level: int, first: int, end: int) -> Iterator[Course]:
        """Buckets `first` to before `end` of a level, compacted ones and then fresh ones."""
        assert self._shelf is not None  # noqa: S101  # or there were no levels
        steps = self._shelf.width_of(level)
        packed = min(end, self._reaches.get(level, 0) // steps)
        if first < packed:
            yield from strata.read(self._connection, self._picks, level, steps, first, packed, len(self._columns))
        if packed < end and level == 0:
            total = len(self._layout.columns)
            yield from fresh.read(self._connection, self._shelf, total, max(first, packed), end, self._columns)

    def _raw(self, low: int, high: int, width: int) -> Iterator[Course]:
        total = len(self._layout.columns)
        for stretch in points.read(self._connection, self._layout.id, total, low, high, self._columns):
            yield lay(stretch, width)


def levels(connection: sqlite3.Connection, layout: Outline) -> Iterator[tuple[int, int, Iterator[Course]]]:
    """Level, steps in a bucket, and all its buckets of all columns: everything that is stored of a layout's pyramid."""
    shelf, columns = shelves.get(connection, layout.id), np.arange(len(layout.columns))
    if shelf is None or shelf.width is None:
        return
    owned, reaches = blocks.of(connection, layout.id), shelves.reaches(connection, layout.id)
    picks = blocks.picks(owned, columns) if owned else []
    for level, reach in reaches.items() if picks else ():
        steps = shelf.width_of(level)
        yield level, steps, strata.read(connection, picks, level, steps, 0, reach // steps, len(columns))
    steps = shelf.width_of(0)
    low, end = reaches.get(0, 0) // steps, shelf.bucketed // steps
    yield 0, steps, fresh.read(connection, shelf, len(columns), low, end, columns)
