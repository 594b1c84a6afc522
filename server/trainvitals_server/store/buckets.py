"""Buckets: what remains of many values when there is room for few, with no spike and no NaN lost.

A bucket covers `width` steps, a power of two, and starts at a multiple of it. It holds the number of values, the
minimum, maximum and sum of the finite ones, the first and the last value as they were, and how many were NaN, +Inf and
-Inf. Buckets merge exactly: folding stretches in any cut and order gives the same buckets (sums up to rounding).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store.frames import Stretch

FIELDS = ("n", "min", "max", "first", "last", "sum", "n_nan", "n_posinf", "n_neginf")
_NEVER = np.iinfo(np.int64).max


def choose_width(low: int, high: int, most: int) -> int:
    """The least power of two by which steps `low` to `high` fall into at most `most` buckets."""
    width = 1
    while high // width - low // width + 1 > most:
        width *= 2
    return width


@dataclass
class Buckets:
    """Buckets of some series: every field is [buckets, series]; row i starts at step (base + i) * width."""

    base: int
    width: int
    n: NDArray[np.int64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    sum: NDArray[np.float64]
    first: NDArray[np.float64]
    last: NDArray[np.float64]
    first_at: NDArray[np.int64]
    last_at: NDArray[np.int64]
    n_nan: NDArray[np.int64]
    n_posinf: NDArray[np.int64]
    n_neginf: NDArray[np.int64]

    @classmethod
    def empty(cls, low: int, high: int, width: int, series: int) -> "Buckets":
        """Buckets for steps `low` to `high` of `series` series, with nothing in them."""
        shape = (high // width - low // width + 1, series)
        nothing, zero = np.full(shape, np.nan), np.zeros(shape, np.int64)
        return cls(
            base=low // width,
            width=width,
            n=zero.copy(),
            min=np.full(shape, np.inf),
            max=np.full(shape, -np.inf),
            sum=np.zeros(shape),
            first=nothing.copy(),
            last=nothing.copy(),
            first_at=np.full(shape, _NEVER),
            last_at=np.full(shape, -1),
            n_nan=zero.copy(),
            n_posinf=zero.copy(),
            n_neginf=zero.copy(),
        )

    def steps(self) -> NDArray[np.int64]:
        """The first step of each bucket."""
        return (self.base + np.arange(len(self.n))) * self.width

    def fold(self, stretch: Stretch, source: NDArray[np.intp], target: NDArray[np.intp]) -> None:
        """Add columns `source` of a stretch to the series `target`. Steps must increase and lie within the range."""
        if not len(stretch.steps) or not len(source):
            return
        values = stretch.values[:, source].astype(np.float64)
        there = np.ones(values.shape, np.bool_) if stretch.present is None else stretch.present[:, source]
        index = stretch.steps // self.width - self.base
        starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
        where = np.ix_(index[starts], target)
        self._count(where, starts, values, there)
        self._extremes(where, starts, values, there)
        self._ends(where, starts, stretch.steps, values, there)

    def _count(self, where: "_Where", starts: "_Rows", values: "_Values", there: "_Mask") -> None:
        for field, mask in (
            (self.n, there),
            (self.n_nan, there & np.isnan(values)),
            (self.n_posinf, there & (values == np.inf)),
            (self.n_neginf, there & (values == -np.inf)),
        ):
            if mask.any():  # mostly only the first
                field[where] += np.add.reduceat(mask, starts, axis=0, dtype=np.int64)

    def _extremes(self, where: "_Where", starts: "_Rows", values: "_Values", there: "_Mask") -> None:
        finite = there & np.isfinite(values)
        low = np.minimum.reduceat(np.where(finite, values, np.inf), starts, axis=0)
        high = np.maximum.reduceat(np.where(finite, values, -np.inf), starts, axis=0)
        self.min[where] = np.minimum(self.min[where], low)
        self.max[where] = np.maximum(self.max[where], high)
        self.sum[where] += np.add.reduceat(np.where(finite, values, 0.0), starts, axis=0)

    def _ends(self, where: "_Where", starts: "_Rows", steps: "_Rows", values: "_Values", there: "_Mask") -> None:
        column = np.arange(values.shape[1])
        first, last = _edges(starts, there)
        padded = np.append(steps, _NEVER)
        first_at, last_at = padded[first], np.where(last < 0, -1, steps[last])
        earlier, later = first_at < self.first_at[where], last_at > self.last_at[where]
        head = values[np.minimum(first, len(steps) - 1), column]
        self.first[where] = np.where(earlier, head, self.first[where])
        self.last[where] = np.where(later, values[last, column], self.last[where])
        self.first_at[where] = np.where(earlier, first_at, self.first_at[where])
        self.last_at[where] = np.where(later, last_at, self.last_at[where])

    def column(self, series: int) -> dict[str, NDArray[np.float64]]:
        """One series' buckets that hold anything: `step` and `FIELDS`, each float64. Without a finite value min, max
        and sum are NaN."""
        some = np.flatnonzero(self.n[:, series])
        found = {"step": self.steps()[some].astype(np.float64)}
        found |= {field: getattr(self, field)[some, series].astype(np.float64) for field in FIELDS}
        hollow = found["n"] == found["n_nan"] + found["n_posinf"] + found["n_neginf"]
        for field in ("min", "max", "sum"):
            found[field][hollow] = np.nan
        return found


def _edges(starts: "_Rows", there: "_Mask") -> tuple["_Rows", "_Rows"]:
    """The first and last row of each group that holds a value, by column: one behind the end and -1 where none does."""
    height = len(there)
    if there.all():
        ends = np.append(starts[1:], height) - 1
        return starts[:, None], ends[:, None]
    rows = np.arange(height)[:, None]
    first = np.minimum.reduceat(np.where(there, rows, height), starts, axis=0)
    return first, np.maximum.reduceat(np.where(there, rows, -1), starts, axis=0)


_Where = tuple[NDArray[np.intp], ...]
_Rows = NDArray[np.int64]
_Values = NDArray[np.float64]
_Mask = NDArray[np.bool_]
