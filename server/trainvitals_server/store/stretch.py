"""Consecutive frames of one layout as arrays, whichever rows they came from."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Stretch(NamedTuple):
    """Consecutive frames of one layout: int64[n], float64[n], float32[n, m], bool[n, m] or None where all is there."""

    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    present: NDArray[np.bool_] | None

    def part(self, rows: slice) -> "Stretch":
        """Some of the frames."""
        present = None if self.present is None else self.present[rows]
        return Stretch(self.steps[rows], self.times[rows], self.values[rows], present)

    def within(self, low: int, high: int) -> "Stretch":
        """The frames from step `low` to `high`, both included."""
        if not len(self.steps) or (low <= self.steps[0] and self.steps[-1] <= high):
            return self
        first, last = np.searchsorted(self.steps, [low, high + 1])
        return self.part(slice(int(first), int(last)))


def join(some: Sequence[Stretch]) -> Stretch:
    """Stretches that follow one another, as one."""
    if len(some) == 1:
        return some[0]
    values = np.concatenate([one.values for one in some])
    present = None
    if any(one.present is not None for one in some):
        present = np.concatenate(
            [np.ones(one.values.shape, np.bool_) if one.present is None else one.present for one in some]
        )
    steps = np.concatenate([one.steps for one in some])
    return Stretch(steps, np.concatenate([one.times for one in some]), values, present)
