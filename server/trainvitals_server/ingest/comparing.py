"""The ranks of a run, compared: what each of them told of its own layers, once the last of them has told it.

Theory of operation. Every `health_every` steps each rank sends, under statistics that end in `wire.COMPARED`, a few
numbers of its layers. A step that all ranks of one launch have told is taken together (rules/apart.py) and judged as a
block of rank 0's producer; how far the ranks are apart in the layer that differs most is stored, in a layout of the
server's own, whose newest step says up to where they have been compared.

What is told of a step does not depend on how the frames of different ranks were batched and interleaved: each rank's
come in the order of their steps, so the steps up to the slowest rank's newest are known for good, and are judged in
order. A step that some rank has passed without a frame is judged by nobody. Where a rank is gone the others are not
compared any further: ranks that share a launch step together, and wait for it too.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals import wire
from trainvitals_server.ingest import counterparts, derived
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.judging import judge_block
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.rules import Block, apart
from trainvitals_server.store import points, runs, series
from trainvitals_server.store.stretch import Stretch, join

READ_VALUES = 2 << 20  # how many, of all ranks together, are compared at once

WORST = ((apart.WEIGHTS, wire.WEIGHTS_APART), (apart.VARIANCES, wire.STATISTICS_APART))


class Source(NamedTuple):
    """One rank's layout (row id) of `width` columns, its producer (row id), and which columns are compared."""

    layout: int
    producer: int
    width: int
    columns: NDArray[np.intp]


@dataclass
class Comparison:
    """One source of each rank; `columns` describe the block that they make together. `target` is where it is stored how
    far they are apart, beside the frames of `leader`; up to step `done` they have been compared."""

    leader: runs.Producer
    sources: list[Source]
    columns: tuple[wire.Series, ...]
    target: series.Layout
    done: int


def compare_ranks(tx: Transaction, books: Books, who: runs.Producer) -> None:
    """After a batch of `who`: compare the ranks at the steps that all of them have told now."""
    for one in _comparisons(tx, books, who):
        high = min(books.last_step(tx.connection, them.producer, them.layout) for them in one.sources)
        if one.done < high:
            for low, last in _portions(tx, one, high):
                _compare(tx, books, one, low, last)
            one.done = high


def _comparisons(tx: Transaction, books: Books, who: runs.Producer) -> list[Comparison]:
    """What can be compared within the launch of `who`; nothing until every rank has declared it."""
    if who.world_size < 2 or not who.launch:
        return []
    key = (who.run, who.launch)
    if key not in books.comparisons:
        groups = counterparts.find(tx, who, wire.COMPARED)
        if groups is None:
            return []
        made = [_comparison(tx, books, *group) for group in groups]
        books.comparisons[key] = [one for one in made if one is not None]
    found: list[Comparison] = books.comparisons[key]
    return found


def _comparison(
    tx: Transaction, books: Books, leader: runs.Producer, layouts: Sequence[series.Layout]
) -> Comparison | None:
    """Of what all of these layouts tell, one of each rank; None where that is nothing."""
    places = [
        {counterparts.key(one, wire.COMPARED): place for place, one in counterparts.columns(layout, wire.COMPARED)}
        for layout in layouts
    ]
    keys = [key for key in places[0] if all(key in them for them in places)]
    if not keys:
        return None
    sources = [
        Source(layout.id, layout.producer, len(layout.columns), np.array([them[key] for key in keys], np.intp))
        for layout, them in zip(layouts, places, strict=True)
    ]
    compared = [wire.Series(place, *key) for place, key in enumerate(keys)]
    kinds = {(kind, stat) for _, kind, stat in keys}
    names = [name for measure, name in WORST if (measure.kind, measure.stat) in kinds]
    declared = [wire.Series(place, "", wire.RUN, name) for place, name in enumerate(names)]
    target = derived.layout(tx, leader, layouts[0].layout, declared)
    done = books.last_step(tx.connection, leader.id, target.id)
    return Comparison(leader, sources, apart.columns(compared), target, done)


def _portions(tx: Transaction, one: Comparison, high: int) -> Iterator[tuple[int, int]]:
    """The steps after `done` up to `high`, in portions of what may be read of all ranks at once."""
    first = one.sources[0]
    some = points.read(tx.connection, first.layout, first.width, one.done + 1, high, first.columns[:1])
    steps = np.concatenate([np.zeros(0, np.int64), *(stretch.steps for stretch in some)])
    height = max(1, READ_VALUES // (len(one.sources) * len(first.columns)))
    for start in range(0, len(steps), height):
        portion = steps[start : start + height]
        yield int(portion[0]), int(portion[-1])


def _compare(tx: Transaction, books: Books, one: Comparison, low: int, high: int) -> None:
    """Store how far the ranks are apart at the steps from `low` to `high` that all of them told, and judge it."""
    told = [_read(tx, source, low, high) for source in one.sources]
    steps = told[0].steps
    for them in told[1:]:
        steps = np.intersect1d(steps, them.steps, assume_unique=True)
    if not len(steps):
        return
    rows = [np.searchsorted(them.steps, steps) for them in told]
    values = np.stack([them.values[own] for them, own in zip(told, rows, strict=True)]).astype(np.float64)
    there = np.logical_and.reduce([_there(them)[own] for them, own in zip(told, rows, strict=True)])
    found = apart.compare(values, there).astype(np.float32)
    block = Block(one.columns, steps, told[0].times[rows[0]], found, None, ())
    shown = derived.store(tx, books, one.leader, one.target, _worst(one.target, block))
    judge_block(tx, books, one.leader, block, newest=shown)


def _read(tx: Transaction, source: Source, low: int, high: int) -> Stretch:
    """What one rank told at steps `low` to `high`."""
    layout, width, columns = source.layout, source.width, source.columns
    nothing = Stretch(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, len(columns)), np.float32), None)
    return join([nothing, *points.read(tx.connection, layout, width, low, high, columns)])


def _there(told: Stretch) -> NDArray[np.bool_]:
    return np.ones(told.values.shape, np.bool_) if told.present is None else told.present


def _worst(target: series.Layout, block: Block) -> Stretch:
    """How far the ranks are apart in the layer that differs most, at each step."""
    wanted = {one.stat for one in target.declared if one is not None}
    times = [apart.farthest(block, measure).times(measure.floor) for measure, name in WORST if name in wanted]
    values = np.stack([np.where(np.isnan(one), 0.0, one).max(axis=1) for one in times], axis=1)
    present = np.stack([~np.isnan(one).all(axis=1) for one in times], axis=1)
    return Stretch(block.steps, block.times, values.astype(np.float32), None if present.all() else present)
