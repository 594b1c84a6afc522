"""Norms of sharded parameters: the squares that the ranks send, added up once the last of them has come.

Theory of operation. Under FSDP no process knows a norm. Each sends, under statistics that end in `wire.SHARD`, the
squares of what it holds; their sum over all ranks of one launch is the square of the true norm, whose root is stored
under the usual name, in a layout of the server's own beside those of rank 0's producer. So queries, rules and browsers
find it where it would be without shards.

A rank's frames come in the order of their steps, so a step that some rank has passed without a frame will never be
whole: it has no sum, which is better than a wrong one. The steps that are whole are those up to the slowest rank's
newest; as it goes on, however late, they are completed in order.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from trainvitals import wire
from trainvitals_server.ingest import counterparts, derived
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.judging import judge_block
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.rules import Block
from trainvitals_server.store import frames, points, runs, series

NOTHING = np.zeros(0, np.int64), np.zeros(0)


class Source(NamedTuple):
    """A layout that holds shards of one rank: in which columns, and which of the sums they belong to."""

    layout: series.Layout
    columns: NDArray[np.intp]
    sums: NDArray[np.intp]


@dataclass
class Sum:
    """What is added up: one source of each rank, into the server's layout `target` of `leader`, rank 0's producer.
    `skips` is the column of rank 0's source that tells of skipped steps; up to step `done` nothing more can come."""

    leader: runs.Producer
    sources: list[Source]
    target: series.Layout
    skips: int | None
    done: int


def join_shards(tx: Transaction, books: Books, who: runs.Producer) -> None:
    """After a batch of `who`: store and judge the norms of the steps that are whole now."""
    for one in _sums(tx, books, who):
        newest = [books.last_step(tx.connection, them.layout.producer, them.layout.id) for them in one.sources]
        high = min(newest)
        if one.done < high:
            _add_up(tx, books, one, one.done + 1, high)
            one.done = high


def _sums(tx: Transaction, books: Books, who: runs.Producer) -> list[Sum]:
    """What can be added up of the launch of `who`; nothing until every rank has declared its shards."""
    key = (who.run, who.launch)
    if key not in books.sums:
        groups = counterparts.find(tx, who, wire.SHARD)
        if groups is None:
            return []
        books.sums[key] = [_sum(tx, books, *group) for group in groups]
    found: list[Sum] = books.sums[key]
    return found


def _sum(tx: Transaction, books: Books, leader: runs.Producer, layouts: Sequence[series.Layout]) -> Sum:
    """The sum of these layouts, one of each rank."""
    target = derived.layout(tx, leader, layouts[0].layout, _declared(layouts))
    places = {(one.layer, one.kind, one.stat): place for place, one in enumerate(target.declared) if one is not None}
    sources = [_source(layout, places) for layout in layouts]
    told = [(one.kind, one.stat) if one else None for one in layouts[0].declared]
    skips = told.index((wire.RUN, wire.SKIPPED)) if (wire.RUN, wire.SKIPPED) in told else None
    return Sum(leader, sources, target, skips, books.last_step(tx.connection, leader.id, target.id))


def _declared(layouts: Iterable[series.Layout]) -> list[wire.Series]:
    """The columns of a sum: rank 0's series, then those that only other ranks have."""
    found: dict[counterparts.Key, wire.Series] = {}
    for _, one in (pair for layout in layouts for pair in counterparts.columns(layout, wire.SHARD)):
        key = counterparts.key(one, wire.SHARD)
        found.setdefault(key, wire.Series(len(found), *key, one.order))
    return list(found.values())


def _source(layout: series.Layout, places: dict[counterparts.Key, int]) -> Source:
    found = counterparts.columns(layout, wire.SHARD)
    columns, sums = np.array([(column, places[counterparts.key(one, wire.SHARD)]) for column, one in found], np.intp).T
    return Source(layout, columns, sums)


class Part(NamedTuple):
    """One rank's squares: int64[n], float64[n], float64[n, k], bool[n, k], bool[n] (skipped steps)."""

    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    squares: NDArray[np.float64]
    there: NDArray[np.bool_]
    skipped: NDArray[np.bool_]


def _add_up(tx: Transaction, books: Books, one: Sum, low: int, high: int) -> None:
    """Store, show and judge the norms of the whole steps from `low` to `high`."""
    width = len(one.target.columns)
    skips = [one.skips, *[None] * (len(one.sources) - 1)]
    parts = [_read(tx, *pair, low, high) for pair in zip(one.sources, skips, strict=True)]
    steps = parts[0].steps
    for part in parts[1:]:
        steps = np.intersect1d(steps, part.steps, assume_unique=True)
    if not len(steps):
        return
    total, there = np.zeros((len(steps), width)), np.ones((len(steps), width), np.bool_)
    for part, source in zip(parts, one.sources, strict=True):
        rows = np.searchsorted(part.steps, steps)
        total[:, source.sums] += part.squares[rows]
        there[:, source.sums] &= part.there[rows]
    leading = np.searchsorted(parts[0].steps, steps)
    values = np.where(there, np.sqrt(total), 0).astype(np.float32)
    stretch = frames.Stretch(steps, parts[0].times[leading], values, None if there.all() else there)
    _store(tx, books, one, stretch, parts[0].skipped[leading])


def _read(tx: Transaction, source: Source, skips: int | None, low: int, high: int) -> Part:
    """One rank's squares of steps `low` to `high`."""
    width = len(source.layout.columns)
    nothing = frames.Stretch(*NOTHING, np.zeros((0, width), np.float32), None)
    stretches = [nothing, *points.read(tx.connection, source.layout.id, width, low, high)]
    pieces = [_part(stretch, source, skips) for stretch in stretches]
    return Part(*(np.concatenate(field) for field in zip(*pieces, strict=True)))


def _part(stretch: frames.Stretch, source: Source, skips: int | None) -> Part:
    squares = stretch.values[:, source.columns].astype(np.float64)
    there = np.ones(squares.shape, np.bool_) if stretch.present is None else stretch.present[:, source.columns]
    skipped = np.zeros(len(squares), np.bool_) if skips is None else stretch.values[:, skips] > 0
    return Part(stretch.steps, stretch.times, squares, there, skipped)


def _store(tx: Transaction, books: Books, one: Sum, stretch: frames.Stretch, skipped: NDArray[np.bool_]) -> None:
    leader, target = one.leader, one.target
    shown = derived.store(tx, books, leader, target, stretch)
    # Of steps that were skipped no gradient reached a weight; the layout that says so is another one.
    taken = ~skipped
    present = None if stretch.present is None else stretch.present[taken]
    columns = cast(tuple[wire.Series, ...], target.declared)  # whole, so none is None; the same tuple each time
    block = Block(columns, stretch.steps[taken], stretch.times[taken], stretch.values[taken], present, ())
    if len(block.steps):
        judge_block(tx, books, leader, block, newest=shown)
