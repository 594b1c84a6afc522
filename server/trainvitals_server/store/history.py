"""A run's past: buckets over a range of steps, and everything as of one step."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals import wire
from trainvitals_server.store import events, marks, points, runs, series, shelves
from trainvitals_server.store.buckets import Buckets, choose_width
from trainvitals_server.store.pyramid import Pyramid
from trainvitals_server.store.stretch import Stretch

LOOK_BACK = 64  # steps in which a value that is absent now is looked for first
MAX_CELLS = 500_000  # buckets x series of one answer; a wider question gets wider buckets


class Gap(NamedTuple):
    """Steps of which `lost` records are missing, and why."""

    low: int
    high: int
    lost: int
    reason: str


class Range(NamedTuple):
    """Buckets of the series asked for, in that order, over steps `low` to `high`, told as far as step `through`.
    `mark` is for the next question: its answer then begins at `since`, before which nothing has changed (None: it is
    whole)."""

    low: int
    high: int
    buckets: Buckets
    gaps: list[Gap]
    through: int
    mark: str
    since: int | None


class Moment(NamedTuple):
    """The newest values at or before a step, by series id. `step` is None before the first frame."""

    step: int | None
    time: float | None
    values: dict[int, float]


class Known(NamedTuple):
    """What one layout tells at a step: its nearest frame, in which what is absent is as it was last told, and the step
    at which each value was told."""

    layout: series.Outline
    frame: Stretch
    told: NDArray[np.int64]  # by column; -1: never


class Question(NamedTuple):
    """What part of a run is asked for. `low` and `high` default to all there is."""

    run: str
    low: int | None = None
    high: int | None = None
    rank: int = 0
    producer: str | None = None


class Survey(NamedTuple):
    """Where the answer to a question is found, in buckets of `width` steps; the rest is that of `Range`."""

    low: int
    high: int
    width: int
    gaps: list[Gap]
    through: int
    mark: str
    since: int | None
    parts: list[runs.Segment]
    layouts: list[series.Outline]


def read_range(
    connection: sqlite3.Connection, question: Question, wanted: Sequence[int], points: int, mark: str = ""
) -> Range:
    """Buckets of the series `wanted` (ids), at most two per point. With the `mark` of an earlier answer only the
    buckets that may have changed since, if they are as wide as they were."""
    most = min(2 * points, max(2, MAX_CELLS // max(len(wanted), 1)))
    found = survey(connection, question, wanted, most, mark)
    buckets = gather(connection, found, wanted)
    return Range(found.low, found.high, buckets, found.gaps, found.through, found.mark, found.since)


def survey(
    connection: sqlite3.Connection, question: Question, wanted: Sequence[int], most: int, mark: str = ""
) -> Survey:
    """What a question about the series `wanted` (ids) comes to, in at most so many buckets."""
    parts = runs.segments(connection, question.run, question.rank, question.producer)
    low, high = _ends(question, parts)
    width = choose_width(low, high, most)
    layouts = [
        one
        for one in series.outlines(connection, {part.producer for part in parts})
        if np.isin(one.columns, wanted).any()
    ]
    now = marks.make(connection, width, low, parts, layouts)
    through = min(high, max((part.high for part in parts), default=-1))
    since = marks.compare(mark, now, high)
    gaps = _gaps(connection, parts, low, high)
    return Survey(low, high, width, gaps, through, marks.write(now), since, parts, layouts)


def gather(connection: sqlite3.Connection, found: Survey, wanted: Sequence[int]) -> Buckets:
    """The buckets of the series `wanted` (ids), some of those the survey was made for, from step `found.since` on."""
    since = found.since or 0
    buckets = Buckets.empty(max(found.low, since), found.high, found.width, len(wanted))
    place = {one: index for index, one in enumerate(wanted)}
    for part in found.parts:
        within = part._replace(low=max(found.low, part.low, since), high=min(found.high, part.high))
        for layout in found.layouts:
            if layout.producer == part.producer and within.low <= within.high:
                _fold(connection, buckets, layout, place, within)
    return buckets


def _ends(question: Question, parts: Sequence[runs.Segment]) -> tuple[int, int]:
    """The steps asked for; all there are where none are named."""
    low = question.low if question.low is not None else min((part.low for part in parts), default=0)
    high = question.high if question.high is not None else max((part.high for part in parts), default=low)
    return low, max(low, high)


def _fold(
    connection: sqlite3.Connection, buckets: Buckets, layout: series.Outline, place: dict[int, int], part: runs.Segment
) -> None:
    """Add what one layout tells of the wanted series."""
    source = np.flatnonzero(np.isin(layout.columns, list(place)))
    if not len(source):
        return
    target = np.array([place[int(one)] for one in layout.columns[source]], np.intp)
    order = np.argsort(target)
    for course in Pyramid(connection, layout, source[order]).cover(part.low, part.high, buckets.width):
        buckets.merge(course, target[order])


def _gaps(connection: sqlite3.Connection, parts: Sequence[runs.Segment], low: int, high: int) -> list[Gap]:
    """The gaps of these producers within the range, each as far as no other producer tells those steps. One whose
    steps are unknown lies between two frames."""
    found = []
    for place, part in enumerate(parts):
        floor = max((one.high + 1 for one in parts[:place]), default=None)
        ceiling = min((one.low - 1 for one in parts[place + 1 :]), default=None)
        for step, gap in events.gaps(connection, part.producer):
            first = step if gap.first_step is None else gap.first_step
            if first > high or (gap.last_step is not None and gap.last_step < low):
                continue
            last = _gap_end(connection, part.producer, gap, first)
            first = first if floor is None else max(first, floor)
            last = last if ceiling is None else min(last, ceiling)
            if first <= min(last, high) and last >= low:
                found.append(Gap(first, last, gap.count, gap.reason))
    return found


def _gap_end(connection: sqlite3.Connection, producer: int, gap: wire.Gap, first: int) -> int:
    if gap.last_step is not None:
        return gap.last_step
    after = points.next_step(connection, producer, first)
    return first if after is None else after


def read_moment(connection: sqlite3.Connection, question: Question, only: Sequence[int] | None = None) -> Moment:
    """The newest value of every series, or `only` of some (ids), at or before step `question.high` (None: the newest
    there is). Series that only layouts out of use have are gone."""
    found: list[Known] = []
    for part in runs.segments(connection, question.run, question.rank, question.producer):
        high = part.high if question.high is None else min(part.high, question.high)
        if part.low <= high:
            for layout in series.outlines(connection, [part.producer]):
                one = _known(connection, layout, high)
                if one is not None:
                    found.append(one)
    if not found:
        return Moment(None, None, {})
    found.sort(key=lambda one: (one.frame.steps[0], one.frame.times[0]))
    newest = found[-1].frame
    return Moment(int(newest.steps[0]), float(newest.times[0]), _values(found, only))


def _known(connection: sqlite3.Connection, layout: series.Outline, step: int) -> Known | None:
    """What a layout tells at or before `step`; None where that is nothing."""
    near = points.nearest(connection, layout.id, step)
    if near is None:
        return None
    one = next(points.read(connection, layout.id, len(layout.columns), near[0], near[0]))
    there = np.ones(len(layout.columns), np.bool_) if one.present is None else one.present[0]
    told, values = np.where(there, near[0], -1), one.values.copy()
    for places, steps, last in _last_told(connection, layout, np.flatnonzero(~there), near[0] - 1):
        told[places], values[0, places] = steps, last
    return Known(layout, one._replace(values=values, present=None), told)


def _last_told(
    connection: sqlite3.Connection, layout: series.Outline, missing: NDArray[np.intp], high: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.float32]]]:
    """Columns, the steps of their last values at or before step `high`, and these, of those that have any: looked for
    ever further back, each time in wider buckets, so that what was told lately costs little."""
    size = LOOK_BACK
    while high >= 0 and len(missing):
        low = max(0, high - size + 1)
        last = Buckets.empty(low, high, 1 << max(high.bit_length(), 1), len(missing))
        for course in Pyramid(connection, layout, missing).cover(low, high, last.width):
            last.merge(course, np.arange(len(missing)))
        found = last.n[0] > 0
        yield missing[found], last.last_at[0, found], last.last[0, found]
        missing, high, size = missing[~found], low - 1, size * shelves.FAN


def _values(found: Sequence[Known], only: Sequence[int] | None) -> dict[int, float]:
    """The value of each series that was told last, of layouts in the order of their frames, the newest last. Where two
    layouts tell one step, the later one counts, as in buckets."""
    values: dict[int, float] = {}
    newest: dict[int, tuple[int, int]] = {}  # by series: the step at which its value was told, and by which layout
    use = Use({}, {})
    for layout, one, told in reversed(found):
        there = (told >= 0) & use.enter(layout)
        if only is not None:
            there &= np.isin(layout.columns, only)
        columns = layout.columns[there].tolist(), one.values[0, there].tolist(), told[there].tolist()
        for key, value, step in zip(*columns, strict=True):
            if (step, layout.id) > newest.get(key, (-1, -1)):
                values[key], newest[key] = value, (step, layout.id)
    return values


class Use(NamedTuple):
    """Which series are in use, found out from the newest layout to the oldest: by producer, all that its newer layouts
    declared, and those of them that no layout newer than theirs has left out."""

    declared: dict[int, NDArray[np.int64]]
    kept: dict[int, NDArray[np.int64]]

    def enter(self, layout: series.Outline) -> NDArray[np.bool_]:
        """Which columns of the next older layout count. One of which a newer one has any series was replaced: by
        another process as a whole, by its own one as far as the series went on."""
        some, none = layout.columns != series.UNDECLARED, layout.columns[:0]
        own = self.declared.get(layout.producer, none)
        if any(np.isin(layout.columns, one).any() for key, one in self.declared.items() if key != layout.producer):
            use = np.zeros(len(some), np.bool_)
        elif np.isin(layout.columns[some], own).any():
            use = some & np.isin(layout.columns, self.kept[layout.producer])
        else:
            use = some
        self.declared[layout.producer] = np.union1d(own, layout.columns[some])
        self.kept[layout.producer] = np.union1d(self.kept.get(layout.producer, none), layout.columns[use])
        return use


def endings(connection: sqlite3.Connection, run: str) -> dict[str, int]:
    """Producer -> the step from which on a newer one of its rank tells the run; without those that nobody followed."""
    found: dict[str, int] = {}
    least: dict[int, int] = {}  # by rank: the first step of any newer producer
    for row in reversed(runs.producer_rows(connection, run)):
        if row["rank"] in least:
            found[row["producer"]] = least[row["rank"]]
        if row["first_step"] is not None:
            least[row["rank"]] = min(row["first_step"], least.get(row["rank"], row["first_step"]))
    return found


def nonfinite_layers(rows: Sequence[series.Row], values: dict[int, float]) -> list[str]:
    """The layers with running statistics that hold non-finite or negative channels, in forward order."""
    bad = (wire.NONFINITE_CHANNELS, wire.NEGATIVE_CHANNELS)
    counted = [row for row in rows if row.kind == wire.NORM and row.stat in bad and values.get(row.id, 0.0) > 0]
    return list(dict.fromkeys(row.layer for row in sorted(counted, key=lambda row: row.order)))
