"""How far the ranks of a run are apart: of each layer the rank that is farthest from the others.

Ranks that train together tell the same numbers of their own layers at the same steps. What they told of one step is
taken together here: the rank that differs most, its value, and the median and the range of the others', of each layer
at each step. As columns of a block, rules read that like anything else that is known of a layer, and its size does not
depend on how many ranks there are.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals import wire
from trainvitals_server.rules.block import Block, Bools, Floats, select

TINY = 1e-12  # so that of two zeros and a one it is the one that differs
PARTS = (".rank", ".value", ".median", ".low", ".high")  # endings of the statistics; the last three are the others'


class Measure(NamedTuple):
    """What is compared. Values below `floor` count as that: between numbers so small there is no difference."""

    kind: str
    stat: str
    floor: float


WEIGHTS = Measure(wire.PARAMETER, wire.WEIGHT_NORM, 1e-6)
VARIANCES = Measure(wire.NORM, wire.VAR_MAX, 1e-5)  # the usual eps of a norm: below it a variance changes nothing


class Farthest(NamedTuple):
    """Of k layers at n steps the rank that is farthest from the others, each float64[n, k]; NaN where not known. Only
    `value` may be non-finite otherwise. `low` and `high` are the range of the others that are finite."""

    layers: tuple[str, ...]
    rank: Floats
    value: Floats
    median: Floats
    low: Floats
    high: Floats

    def times(self, floor: float) -> Floats:
        """How many times the others' median the value is, or it the value; infinite where the value is not finite, NaN
        where nothing is known."""
        value = np.where(np.isfinite(self.value), self.value, np.inf)
        larger, smaller = np.maximum(value, floor), np.maximum(self.median, floor)
        return np.maximum(larger / smaller, smaller / larger)


def columns(compared: Iterable[wire.Series]) -> tuple[wire.Series, ...]:
    """The columns of a block that tells of these series (named as if one rank told them): for each part all of them."""
    layers = list(compared)
    wanted = [(one, one.stat + part) for part in PARTS for one in layers]
    return tuple(wire.Series(i, one.layer, one.kind, stat, one.order) for i, (one, stat) in enumerate(wanted))


def compare(values: Floats, there: Bools) -> Floats:
    """What the block has in these columns, float64[n, 5 k], of what at least two ranks told: float64[ranks, n, k], NaN
    and Inf included, which all of them did where `there`, bool[n, k]. NaN where not, and where no rank is finite."""
    finite = np.isfinite(values)
    order = np.argsort(np.where(finite, values, np.inf), axis=0, kind="stable")
    parts = _of_finite(np.take_along_axis(values, order, axis=0), order)
    if not finite.all():
        broken = ~finite.all(axis=0)
        parts[:, broken] = _of_broken(values[:, broken], finite[:, broken])
    return np.concatenate(list(np.where(there, parts, np.nan)), axis=1)


def tells(block: Block, measure: Measure) -> bool:
    """Whether a block tells of this measure: most tell of no comparison, and are looked at for every frame."""
    return bool(select(block, measure.kind, measure.stat + PARTS[0]).layers)


def farthest(block: Block, measure: Measure) -> Farthest:
    """What a block tells of this measure."""
    found = [select(block, measure.kind, measure.stat + part) for part in PARTS]
    return Farthest(found[0].layers, *(one.values for one in found))


def _of_finite(ordered: Floats, order: NDArray[np.intp]) -> Floats:
    """The parts [5, n, k] where all ranks are finite, from their values in order and the ranks that told them. It is
    the largest or the smallest; of two that are as far, the rank with the higher number."""
    others = len(ordered) - 1
    with np.errstate(invalid="ignore"):  # where a rank is not finite this is of no use, and is replaced
        below = (ordered[(others - 1) // 2] + ordered[others // 2]) / 2  # the median without the largest
        above = (ordered[1 + (others - 1) // 2] + ordered[1 + others // 2]) / 2  # without the smallest
        largest, least, under, over = (np.maximum(one, TINY) for one in (ordered[-1], ordered[0], below, above))
        up, down = largest * least, under * over  # as comparing largest / under with over / least
    top = np.where(up == down, order[-1] > order[0], up > down)
    return np.where(
        top,
        np.stack([order[-1], ordered[-1], below, ordered[0], ordered[-2]]),
        np.stack([order[0], ordered[0], above, ordered[1], ordered[-1]]),
    )


def _of_broken(values: Floats, finite: Bools) -> Floats:
    """The parts [5, m] of m places at which some rank of those in `values` [ranks, m] is not finite: the first such."""
    rank = np.argmin(finite, axis=0)
    ordered = np.sort(np.where(finite, values, np.inf), axis=0)
    count = finite.sum(axis=0)
    places = np.arange(values.shape[1])
    last = np.maximum(count - 1, 0)
    median = (ordered[last // 2, places] + ordered[(last + 1) // 2, places]) / 2
    parts = np.stack([rank, values[rank, places], median, ordered[0], ordered[last, places]])
    return np.where(count > 0, parts, np.nan)
