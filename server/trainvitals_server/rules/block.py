"""What goes into a rule and what comes out of it."""

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainvitals import wire

Severity = Literal["info", "warning", "critical"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A rule's state changed at `step`: it fired (`active`) or cleared. `layer` is "" for the run as a whole; together
    with `rule` it names what the finding is about. `text` is one plain sentence with layer, value and threshold.

    A rule over frames speaks when its level changes; a rule over events speaks at each event that confirms it."""

    rule: str
    title: str
    layer: str
    step: int
    severity: Severity
    active: bool
    value: float
    threshold: float
    text: str


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive records of one producer in sequence order: frames of one layout, and events.

    `columns` describes the m columns; `steps` int64[n]; `times` float64[n], Unix seconds; `values` float32[n, m];
    `present` bool[n, m], or None where every value is. n and m may be 0."""

    columns: tuple[wire.Series, ...]
    steps: Ints
    times: Floats
    values: NDArray[np.float32]
    present: Bools | None
    events: tuple[wire.Event, ...]


class Layout:
    """What the columns of a block hold, worked out once for each tuple of columns (told apart by identity: hashing
    thousands of structs would cost more than looking)."""

    def __init__(self, columns: tuple[wire.Series, ...]) -> None:
        self.columns = columns

    def __hash__(self) -> int:
        return id(self.columns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.columns is other.columns


Group = tuple[tuple[str, ...], Ints]  # layers in forward order, and the columns they are in
NONE: Group = ((), np.zeros(0, dtype=np.int64))


@lru_cache(maxsize=256)
def groups(layout: Layout) -> dict[tuple[str, str], Group]:
    """The layers and column numbers of each (kind, statistic), in forward order."""
    found: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for place, series in enumerate(layout.columns):
        found[series.kind, series.stat].append((series.order, place))
    return {key: group(layout.columns, [place for _, place in sorted(pairs)]) for key, pairs in found.items()}


def group(columns: tuple[wire.Series, ...], places: list[int]) -> Group:
    """The columns at these places."""
    return tuple(columns[place].layer for place in places), np.array(places, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of one kind and statistic, in forward order: `layers`, `values` float64[n, k], `present` bool[n, k]
    (a value that is absent reads as NaN)."""

    layers: tuple[str, ...]
    values: Floats
    present: Bools


def select(block: Block, kind: str, stat: str) -> Columns:
    """Every column of one kind and statistic; k is 0 where the layout has none."""
    layers, places = groups(Layout(block.columns)).get((kind, stat), NONE)
    values = block.values[:, places].astype(np.float64)
    present = np.ones(values.shape, dtype=bool) if block.present is None else block.present[:, places]
    values[~present] = np.nan
    return Columns(layers, values, present)


def signal(block: Block, stat: str) -> tuple[Ints, Floats]:
    """The steps and values (int64[n], float64[n]) at which a statistic of the whole run was observed."""
    columns = select(block, wire.RUN, stat)
    if not columns.layers or not len(block.steps):
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    seen = columns.present[:, 0]
    return block.steps[seen], columns.values[seen, 0]


def skipped(block: Block) -> Bools:
    """Which rows are steps that the grad scaler skipped, bool[n]; none where the layout has no such column."""
    return somewhere(select(block, wire.RUN, wire.SKIPPED).values > 0)


def somewhere(flags: Bools) -> Bools:
    """In which of n rows any of k flags is set, bool[n]."""
    rows: Bools = np.logical_or.reduce(flags, axis=1)
    return rows
