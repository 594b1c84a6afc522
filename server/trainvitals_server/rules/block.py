"""What goes into a rule and what comes out of it."""

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from functools import cached_property
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

    @cached_property
    def groups(self) -> "dict[Key, Columns]":
        """The columns by kind and statistic, as far as a rule asked for them."""
        return {}

    @cached_property
    def apart(self) -> "tuple[Plan, Floats, Bools]":
        """All values, and which are there, in the order of the plan. They are taken out of the frames at once: for a
        block of one frame a single copy costs a tenth of one copy per rule."""
        plan = plan_of(self.columns)
        values = self.values[:, plan.places].astype(np.float64)
        if self.present is None:
            present = np.ones(values.shape, dtype=bool)
        else:
            present = self.present[:, plan.places]
            np.copyto(values, np.nan, where=~present)
        return plan, values, present


class Layout:
    """What the columns of a block hold, worked out once for each tuple of columns (told apart by identity: hashing
    thousands of structs would cost more than looking)."""

    def __init__(self, columns: tuple[wire.Series | None, ...]) -> None:
        self.columns = columns

    def __hash__(self) -> int:
        return id(self.columns)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.columns is other.columns


Key = tuple[str, str]  # kind, statistic


@dataclass(frozen=True, eq=False)
class Plan:
    """How to take a layout apart: `places` are its columns, group by group and in forward order; `groups` says which
    layers, and which part of `places`, each kind and statistic has."""

    places: Ints
    groups: dict[Key, tuple[tuple[str, ...], slice]]


NONE: tuple[tuple[str, ...], slice] = ((), slice(0, 0))


MAX_PLANS = 1024  # of layouts in use; where there are more, they are worked out again
_plans: OrderedDict[Layout, Plan] = OrderedDict()  # the one used last at the end


def plan_of(columns: tuple[wire.Series, ...]) -> Plan:
    """The plan of these columns, which is kept."""
    layout = Layout(columns)
    plan = _plans.get(layout)
    if plan is None:
        plan = _plans[layout] = make_plan(columns)
        if len(_plans) > MAX_PLANS:
            _plans.popitem(last=False)
    else:
        _plans.move_to_end(layout)
    return plan


def forget_plan(columns: tuple[wire.Series | None, ...]) -> None:
    """Let go of a plan, and with it of the columns, which whoever used them does not need any more."""
    _plans.pop(Layout(columns), None)


def make_plan(columns: tuple[wire.Series, ...]) -> Plan:
    """How to take these columns apart."""
    found: dict[Key, list[tuple[int, int]]] = defaultdict(list)
    for place, series in enumerate(columns):
        found[series.kind, series.stat].append((series.order, place))
    places, groups = list[int](), dict[Key, tuple[tuple[str, ...], slice]]()
    for key, pairs in found.items():
        own = [place for _, place in sorted(pairs)]
        layers = tuple(columns[place].layer for place in own)
        groups[key] = layers, slice(len(places), len(places) + len(own))
        places += own
    return Plan(np.array(places, dtype=np.int64), groups)


@dataclass(frozen=True, eq=False)
class Columns:
    """The columns of one kind and statistic, in forward order: `layers`, `values` float64[n, k], `present` bool[n, k]
    (a value that is absent reads as NaN)."""

    layers: tuple[str, ...]
    values: Floats
    present: Bools


def select(block: Block, kind: str, stat: str) -> Columns:
    """Every column of one kind and statistic; k is 0 where the layout has none."""
    found = block.groups.get((kind, stat))
    if found is None:
        plan, values, present = block.apart
        layers, part = plan.groups.get((kind, stat), NONE)
        found = block.groups[kind, stat] = Columns(layers, values[:, part], present[:, part])
    return found


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
