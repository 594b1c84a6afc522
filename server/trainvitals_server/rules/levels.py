"""Levels that do not flap: a threshold to fire, another to clear, and observations to wait between them.

Everything here folds over rows (observations) of k columns and takes the state before the first row, so that the
result is the same however the rows were cut.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainvitals_server.rules.block import Bools, Floats, Ints

Number = TypeVar("Number", np.float64, np.int64)


def latch(before: Bools, sets: Bools, resets: Bools) -> Bools:
    """Whether each of k latches is set after each of n rows: `before` bool[k]; `sets`, `resets` bool[n, k]. Setting
    wins over resetting; a row that does neither keeps what was."""
    decided = np.vstack([np.ones_like(before), sets | resets])
    last = np.where(decided, np.arange(len(decided))[:, None], 0)
    np.maximum.accumulate(last, axis=0, out=last)
    return np.take_along_axis(np.vstack([before, sets]), last, axis=0)[1:]


def graded(before: Ints, values: Floats, thresholds: Sequence[tuple[float, float]]) -> Ints:
    """How many levels deep each of k values is after each of n rows, int64[n, k], from `before` int[k]. Level i is
    entered below the i-th pair's first threshold and left from its second on; a NaN decides nothing."""
    levels = np.zeros(values.shape, dtype=np.int64)
    for level, (fire, clear) in enumerate(thresholds, start=1):
        levels += latch(before >= level, values < fire, values >= clear)
    return levels


def sliding(rows: NDArray[Number], width: int, how: np.ufunc) -> NDArray[Number]:
    """`how` (an associative function) over each `width` rows that follow one another: [n - width + 1, k]."""
    reduced: NDArray[Number] = how.reduce(np.lib.stride_tricks.sliding_window_view(rows, width, axis=0), axis=-1)
    return reduced


def changes(before: Ints, levels: Ints) -> list[tuple[int, int]]:
    """Where levels int[n, k] differ from the row above (the first row: from `before` int[k]), as (row, column) in
    order of rows."""
    moved = np.diff(np.vstack([before, levels]), axis=0) != 0
    return [(int(row), int(column)) for row, column in np.argwhere(moved)]


def streak(before: int, flags: Bools) -> Ints:
    """How many true flags in a row end at each of n observations, `before` of them ahead of the first."""
    places = np.arange(1, len(flags) + 1)
    broken = np.maximum.accumulate(np.where(flags, -before, places)) if len(flags) else places
    return (places - broken).astype(np.int64)


class Window(msgspec.Struct, frozen=True):
    """Which of the last observations were hits: `seen` observations so far, `hits` the numbers of those in reach."""

    seen: int = 0
    hits: list[int] = []

    def count(self, flags: Bools, width: int) -> tuple["Window", Ints]:
        """The window after n more observations, and after each of them the hits among the last `width`, int64[n]."""
        numbers = self.seen + 1 + np.arange(len(flags))
        hits = np.concatenate([np.array(self.hits, dtype=np.int64), numbers[flags]])
        counts = np.searchsorted(hits, numbers, "right") - np.searchsorted(hits, numbers - width, "right")
        seen = self.seen + len(flags)
        return Window(seen, hits[hits > seen - width].tolist()), counts.astype(np.int64)

    def pass_by(self, observations: int) -> "Window":
        """The window after observations that were no hits, while none is in reach."""
        return Window(self.seen + observations)


class Hold(msgspec.Struct, frozen=True):
    """Fires at the first bad observation (at step `since`) and clears after `clean` good ones in a row."""

    active: bool = False
    clean: int = 0
    since: int = 0

    def observe(self, steps: Ints, bad: Bools, release: int) -> tuple["Hold", list[int]]:
        """The hold after n observations, and the rows at which it fired or, after `release` good ones, cleared."""
        if not self.active and not bad.any():
            return self, []
        hold, rows = self, list[int]()
        for row, wrong in enumerate(bad.tolist()):
            after = hold.next(int(steps[row]), wrong, release)
            if after.active != hold.active:
                rows.append(row)
            hold = after
        return hold, rows

    def next(self, step: int, wrong: bool, release: int) -> "Hold":
        """The hold after one observation."""
        if wrong:
            return Hold(True, 0, self.since if self.active else step)
        if not self.active or self.clean + 1 >= release:
            return Hold()
        return Hold(True, self.clean + 1, self.since)
