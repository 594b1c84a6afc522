"""Buckets: what remains of many values when there is room for few, with no spike and no NaN lost.

A bucket covers `width` steps, a power of two, and starts at a multiple of it. It holds the number of values, the
minimum, maximum and sum of the finite ones, the first and the last value as they were, and how many were NaN, +Inf and
-Inf. Buckets merge exactly: folding stretches in any cut and order gives the same buckets. Sums alone are rounded:
stored buckets keep the mean as float32, so a sum differs from the true one by at most 2**-21 of the sum of the values'
sizes, whatever the width.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store.course import HEAD, NAN, NEGINF, POSINF, TAIL, Course, N, lay, widen
from trainvitals_server.store.stretch import Stretch

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
    min: NDArray[np.float32]
    max: NDArray[np.float32]
    sum: NDArray[np.float64]
    first: NDArray[np.float32]
    last: NDArray[np.float32]
    first_at: NDArray[np.int64]
    last_at: NDArray[np.int64]
    n_nan: NDArray[np.int32]
    n_posinf: NDArray[np.int32]
    n_neginf: NDArray[np.int32]

    @classmethod
    def empty(cls, low: int, high: int, width: int, series: int) -> "Buckets":
        """Buckets for steps `low` to `high` of `series` series, with nothing in them."""
        shape = (high // width - low // width + 1, series)
        return cls(
            base=low // width,
            width=width,
            n=np.zeros(shape, np.int64),
            min=np.full(shape, np.inf, np.float32),
            max=np.full(shape, -np.inf, np.float32),
            sum=np.zeros(shape),
            first=np.full(shape, np.nan, np.float32),
            last=np.full(shape, np.nan, np.float32),
            first_at=np.full(shape, _NEVER),
            last_at=np.full(shape, -1),
            n_nan=np.zeros(shape, np.int32),
            n_posinf=np.zeros(shape, np.int32),
            n_neginf=np.zeros(shape, np.int32),
        )

    def steps(self) -> NDArray[np.int64]:
        """The first step of each bucket."""
        return (self.base + np.arange(len(self.n))) * self.width

    def fold(self, stretch: Stretch, source: NDArray[np.intp], target: NDArray[np.intp]) -> None:
        """Add columns `source` of a stretch to the series `target`. Steps must increase and lie within the range."""
        if len(stretch.steps) and len(source):
            present = None if stretch.present is None else stretch.present[:, source]
            some = stretch._replace(values=stretch.values[:, source], present=present)
            self.merge(lay(some, self.width), target)

    def merge(self, course: Course, target: NDArray[np.intp]) -> None:
        """Add a course, whose width divides this one, to the series `target`. It must lie within the range."""
        wide = widen(course, self.width)
        rows, columns = _slice(wide.at - self.base), _slice(target)
        both = isinstance(rows, np.ndarray) and isinstance(columns, np.ndarray)
        where: _Where = np.ix_(rows, columns) if both else (rows, columns)  # type: ignore[arg-type]
        self._count(where, wide)
        self.min[where] = np.minimum(self.min[where], wide.min)
        self.max[where] = np.maximum(self.max[where], wide.max)
        self.sum[where] += wide.sum
        self._ends(where, wide)

    def _count(self, where: "_Where", wide: Course) -> None:
        if wide.odd is None:
            self.n[where] += wide.frames[:, None]
            return
        for field, place in ((self.n, N), (self.n_nan, NAN), (self.n_posinf, POSINF), (self.n_neginf, NEGINF)):
            field[where] += wide.odd[place]

    def _ends(self, where: "_Where", wide: Course) -> None:
        """First and last. Where two layouts tell one step, that added before is the first, the other the last."""
        first_at, last_at = wide.heads[:, None], wide.tails[:, None]
        if wide.odd is not None:
            start, none = (wide.at * wide.width)[:, None], wide.odd[N] == 0
            first_at = np.where(none, _NEVER, start + wide.odd[HEAD])
            last_at = np.where(none, -1, start + wide.odd[TAIL])
        earlier, later = first_at < self.first_at[where], last_at >= self.last_at[where]
        self.first[where] = np.where(earlier, wide.first, self.first[where])
        self.last[where] = np.where(later, wide.last, self.last[where])
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


def _slice(places: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """The same places as a slice where they follow one another: no copies then."""
    if len(places) and places[-1] - places[0] == len(places) - 1 and (np.diff(places) == 1).all():
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


_Where = tuple[slice | NDArray[np.int64], ...]
