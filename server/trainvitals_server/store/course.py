"""One course of a pyramid: buckets of equal width that follow one another, for several series at once.

Buckets hold what merges exactly: the smallest, largest and sum of the finite values, the first and last value as they
were, and the counts. Where every value is there and finite, the counts follow from how many frames a bucket has, and
`odd` is None.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store.stretch import Stretch

Longs = NDArray[np.int64]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]
Counts = NDArray[np.signedinteger]

N, NAN, POSINF, NEGINF, HEAD, TAIL = range(6)  # the rows of `odd`
FEW = 16  # groups that are reduced one by one


class Course(NamedTuple):
    """k buckets of `width` steps for m series; only buckets in which any frame is."""

    width: int
    at: Longs  # [k] number of the bucket: its first step / width
    heads: Longs  # [k] first and last step of its frames, and how many
    tails: Longs
    frames: Longs
    min: Floats  # [k, m] of finite values; Infinity where there is none
    max: Floats  # -Infinity where there is none
    first: Floats  # as it was; NaN where there is none
    last: Floats
    sum: NDArray[np.float64]  # of finite values
    odd: Counts | None  # [6, k, m] values, NaN, +Inf, -Inf, and the first and last value's place; -1: none

    def counts(self) -> Counts:
        """`odd`, spelled out."""
        if self.odd is not None:
            return self.odd
        return plain_counts(self.width, np.stack([self.at, self.heads, self.tails, self.frames]), self.min.shape[1])

    def finite(self) -> Counts:
        """How many finite values each bucket has: [k, m], or [k, 1] where that is the same for all."""
        if self.odd is None:
            return self.frames[:, None]
        found: Counts = self.odd[N] - self.odd[NAN] - self.odd[POSINF] - self.odd[NEGINF]
        return found

    def part(self, rows: slice) -> "Course":
        """Some of the buckets."""
        odd = None if self.odd is None else self.odd[:, rows]
        places = self.at[rows], self.heads[rows], self.tails[rows], self.frames[rows]
        ends = self.min[rows], self.max[rows], self.first[rows], self.last[rows]
        return Course(self.width, *places, *ends, self.sum[rows], odd)


def plain_counts(width: int, shape: Longs, m: int) -> Counts:
    """What `odd` would be where every value is there and finite; `shape` is [4, k]: at, heads, tails and frames."""
    at, heads, tails, frames = shape
    found = np.zeros((6, len(at), m), _kind(width))
    found[N] = frames[:, None]
    found[HEAD], found[TAIL] = (heads - at * width)[:, None], (tails - at * width)[:, None]
    return found


def lay(stretch: Stretch, width: int) -> Course:
    """The buckets of some frames."""
    index = stretch.steps // width
    starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
    ends = np.append(starts[1:], len(index)) - 1
    at, heads, tails, frames = index[starts], stretch.steps[starts], stretch.steps[ends], ends - starts + 1
    values = stretch.values
    if stretch.present is None and np.isfinite(values).all():
        ordinary = _reduce(np.minimum, values, starts), _reduce(np.maximum, values, starts)
        total = _reduce(np.add, values, starts, np.float64)
        return Course(width, at, heads, tails, frames, *ordinary, values[starts], values[ends], total, None)
    there = np.ones(values.shape, np.bool_) if stretch.present is None else stretch.present
    return Course(width, at, heads, tails, frames, *_lay_odd(stretch.steps, values, there, starts, width))


def _lay_odd(
    steps: Longs, values: Floats, there: Mask, starts: Longs, width: int
) -> tuple[Floats, Floats, Floats, Floats, NDArray[np.float64], Counts]:
    """Smallest, largest, first, last, sum and the counts, where something is absent or not finite."""
    finite, floor = there & np.isfinite(values), steps[starts] // width * width
    low = _reduce(np.minimum, np.where(finite, values, np.float32(np.inf)), starts)
    high = _reduce(np.maximum, np.where(finite, values, np.float32(-np.inf)), starts)
    total = _reduce(np.add, np.where(finite, values, np.float32(0)), starts, np.float64)
    odd = np.empty((6, *low.shape), _kind(width))
    for field, mask in (
        (N, there),
        (NAN, there & np.isnan(values)),
        (POSINF, there & (values == np.inf)),
        (NEGINF, there & (values == -np.inf)),
    ):
        odd[field] = _reduce(np.add, mask, starts, odd.dtype.type)
    first, last = edges(starts, there)
    none, column = odd[N] == 0, np.arange(values.shape[1])
    odd[HEAD] = np.where(none, -1, steps[first] - floor[:, None])
    odd[TAIL] = np.where(none, -1, steps[last] - floor[:, None])
    head, tail = (np.where(none, np.float32(np.nan), values[row, column]) for row in (first, last))
    return low, high, head, tail, total, odd


def widen(course: Course, width: int) -> Course:
    """The same in buckets of `width` steps, a multiple of what it has. Equal buckets that follow one another are made
    one, so this joins pieces too."""
    index = course.at // (width // course.width)
    starts = np.flatnonzero(np.diff(index, prepend=index[0] - 1))
    if len(starts) == len(index) and width == course.width:
        return course
    ends = np.append(starts[1:], len(index)) - 1
    at, heads, tails = index[starts], course.heads[starts], course.tails[ends]
    frames = np.add.reduceat(course.frames, starts)
    ordinary = _reduce(np.minimum, course.min, starts), _reduce(np.maximum, course.max, starts)
    total = _reduce(np.add, course.sum, starts, np.float64)
    if course.odd is None:
        return Course(width, at, heads, tails, frames, *ordinary, course.first[starts], course.last[ends], total, None)
    odd = np.empty((6, len(at), course.min.shape[1]), _kind(width))
    for field in (N, NAN, POSINF, NEGINF):
        odd[field] = _reduce(np.add, course.odd[field], starts, odd.dtype.type)
    first, last = edges(starts, course.odd[N] > 0)
    offset = course.at * course.width - index * width
    none, column = odd[N] == 0, np.arange(course.min.shape[1])
    odd[HEAD] = np.where(none, -1, course.odd[HEAD][first, column] + offset[first])
    odd[TAIL] = np.where(none, -1, course.odd[TAIL][last, column] + offset[last])
    head = np.where(none, np.float32(np.nan), course.first[first, column])
    tail = np.where(none, np.float32(np.nan), course.last[last, column])
    return Course(width, at, heads, tails, frames, *ordinary, head, tail, total, odd)


def join(courses: Sequence[Course]) -> Course:
    """Courses of one width that follow one another, the last bucket of one perhaps going on in the next."""
    if len(courses) == 1:
        return courses[0]
    odd = None
    if any(one.odd is not None for one in courses):
        odd = np.concatenate([one.counts() for one in courses], axis=1)
    together = Course(
        courses[0].width,
        at=np.concatenate([one.at for one in courses]),
        heads=np.concatenate([one.heads for one in courses]),
        tails=np.concatenate([one.tails for one in courses]),
        frames=np.concatenate([one.frames for one in courses]),
        min=np.concatenate([one.min for one in courses]),
        max=np.concatenate([one.max for one in courses]),
        first=np.concatenate([one.first for one in courses]),
        last=np.concatenate([one.last for one in courses]),
        sum=np.concatenate([one.sum for one in courses]),
        odd=odd,
    )
    return widen(together, together.width)


def edges(starts: Longs, there: Mask) -> tuple[Longs, Longs]:
    """The first and last row of each group that holds a value, by column; any row of it where none does."""
    height = len(there)
    rows = np.arange(height)[:, None]
    first = np.minimum.reduceat(np.where(there, rows, height - 1), starts, axis=0)
    return first, np.maximum.reduceat(np.where(there, rows, 0), starts, axis=0)


def _kind(width: int) -> type[np.signedinteger]:
    """What counts and places in buckets of this width fit in. None that is stored is wider than 2**30 steps."""
    return np.int32 if width <= 1 << 30 else np.int64


def _reduce(ufunc: np.ufunc, values: NDArray, starts: Longs, dtype: type | None = None) -> NDArray:  # type: ignore[type-arg]
    """`ufunc.reduceat` along the first axis: 20 times as fast where there are few groups in rows, and 4 times where all
    groups but those at the ends have the same power of two of members."""
    if len(starts) <= FEW and values.flags.c_contiguous:
        ends = [*starts[1:].tolist(), len(values)]
        pairs = zip(starts.tolist(), ends, strict=True)
        return np.stack([ufunc.reduce(values[low:high], axis=0, dtype=dtype) for low, high in pairs])
    size = int(starts[2] - starts[1]) if len(starts) > FEW else 0
    if size < 2 or size & (size - 1) or (np.diff(starts[1:]) != size).any():
        return np.asarray(ufunc.reduceat(values, starts, axis=0, dtype=dtype))
    low, high = int(starts[1]), int(starts[-1])
    middle = values[low:high]
    while size > 1:
        middle = ufunc(middle[::2], middle[1::2], dtype=dtype)
        size //= 2
    head = ufunc.reduce(values[:low], axis=0, dtype=dtype, keepdims=True)
    tail = ufunc.reduce(values[high:], axis=0, dtype=dtype, keepdims=True)
    return np.concatenate([head, middle, tail])
