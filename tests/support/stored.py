"""A store filled by hand, beside a plain list of all that was told: what any answer must agree with."""

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from served import identify
from trainvitals import wire
from trainvitals_server.store import backlog, compaction, frames, heatmap, history, runs, series, shelves
from trainvitals_server.store.database import Database
from trainvitals_server.store.stretch import Stretch
from trainvitals_server.store.transactions import transaction

RUN = "run-1"
FIELDS = ("n", "min", "max", "first", "last", "sum", "n_nan", "n_posinf", "n_neginf")
SUM_TOLERANCE = 2.0**-21  # of the sum of the values' sizes


class Told(NamedTuple):
    """One value: by which producer, in which of its layouts (row ids), at which step, of which series."""

    producer: int
    layout: int
    step: int
    series: int
    value: float


class Kept(NamedTuple):
    """What a page holds of some series, and the mark of its last answer."""

    mark: str
    columns: dict[int, dict[str, NDArray[np.float64]]]


class KeptMap(NamedTuple):
    """The same of a map: its planes."""

    mark: str
    planes: dict[str, NDArray[Any]]


def shrink(patch: pytest.MonkeyPatch) -> None:
    """Make spans and levels so small that a few hundred frames have several of each."""
    patch.setattr(shelves, "BASE", 4)
    patch.setattr(shelves, "PER_ROW", 4)
    patch.setattr(compaction, "SPAN_FRAMES", 16)
    patch.setattr(compaction, "LEAST_FRAMES", 4)
    patch.setattr(compaction, "JOB_BYTES", 300)
    patch.setattr(compaction, "DROP_BYTES", 300)
    patch.setattr(compaction, "TOGETHER", 2)
    patch.setattr(backlog, "PART_VALUES", 40)
    patch.setattr(frames, "MAX_ROW_BYTES", 200)
    patch.setattr(frames, "READ_BYTES", 1000)


@dataclass
class Stored:
    """A database of one run in `directory`."""

    directory: Path
    told: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.database = Database(self.directory / "stored.db")
        self.connection = self.database.writer()
        self.order: list[int] = []  # producers, as they started
        self.firsts: dict[int, int] = {}  # their first steps
        self.columns: dict[int, NDArray[np.int64]] = {}  # by layout

    def __enter__(self) -> "Stored":
        return self

    def __exit__(self, *error: object) -> None:
        self.database.close()
        self.connection.close()

    def producer(self, rank: int = 0) -> int:
        """One more process of the run."""
        place = len(self.order)
        who = identify(RUN, f"p-{place}", started=float(place + 1), rank=rank)
        with transaction(self.connection):
            made, _ = runs.enter(self.connection, who, 0.0)
        self.order.append(made.id)
        return made.id

    def layout(self, producer: int, number: int, *names: tuple[str, str]) -> int:
        """A layout of (layer, statistic)."""
        declared = [wire.Series(place, layer, wire.PARAMETER, stat, place) for place, (layer, stat) in enumerate(names)]
        with transaction(self.connection):
            rows = series.enter(self.connection, RUN, declared)
            columns = np.array([row.id for row in rows])
            made = series.save(self.connection, producer, number, columns, list(declared))
        self.columns[made.id] = columns
        return made.id

    def tell(self, producer: int, layout: int, steps: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Store frames in one transaction; a masked array has absent values."""
        present = None if not np.ma.isMaskedArray(values) else ~np.ma.getmaskarray(values)
        plain = np.ma.getdata(values).astype(np.float32)
        with transaction(self.connection):
            frames.add(self.connection, layout, Stretch(steps, steps + 0.5, plain, present))
            first, last = int(steps[0]), int(steps[-1])
            runs.extend(self.connection, producer, (first, last), (first + 0.5, last + 0.5), len(steps))
        self.firsts[producer] = min(first, self.firsts.get(producer, first))
        for row, step in enumerate(steps.tolist()):
            for column, one in enumerate(self.columns[layout].tolist()):
                if present is None or present[row, column]:
                    self.told.append(Told(producer, layout, step, one, float(plain[row, column])))

    def compact(self, jobs: int = 1 << 30, *, idle: bool = False) -> int:
        """Do at most so many jobs; a plan may be left half done. Returns how many were done."""
        done = 0
        for layout in self.columns:
            while plan := compaction.plan(self.connection, layout, idle=idle):
                for job in itertools.chain(*plan):
                    if done == jobs:
                        return done
                    with transaction(self.connection):
                        job(self.connection)
                    done += 1
        return done

    def ask(self, low: int | None, high: int | None, wanted: list[int], points: int) -> history.Range:
        """A range, as the page asks for it."""
        with self.database.reading() as connection:
            return history.read_range(connection, history.Question(RUN, low, high), wanted, points)

    def visible(self) -> list[Told]:
        """What a newer producer does not hide, in the order in which it counts."""
        found = []
        for place, producer in enumerate(self.order):
            later = [self.firsts[one] for one in self.order[place + 1 :] if one in self.firsts]
            end = min(later, default=1 << 60)
            found += [one for one in self.told if one.producer == producer and one.step < end]
        return sorted(found, key=lambda one: (one.step, self.order.index(one.producer), one.layout))

    def expect(self, low: int, high: int, width: int, wanted: int) -> dict[str, NDArray[np.float64]]:
        """The buckets of a series, of all that was told, in plain numpy."""
        some = [(one.step, one.value) for one in self.visible() if one.series == wanted and low <= one.step <= high]
        steps = np.array([step for step, _ in some], np.int64)
        values = np.array([value for _, value in some], np.float64)
        starts = np.unique(steps // width * width)
        found: dict[str, list[float]] = {name: [] for name in ("step", *FIELDS, "size")}
        for start in starts.tolist():
            inside = values[(steps >= start) & (steps < start + width)]
            finite = inside[np.isfinite(inside)]
            found["step"].append(start)
            found["n"].append(len(inside))
            found["min"].append(finite.min() if len(finite) else np.nan)
            found["max"].append(finite.max() if len(finite) else np.nan)
            found["sum"].append(finite.sum() if len(finite) else np.nan)
            found["first"].append(inside[0])
            found["last"].append(inside[-1])
            found["n_nan"].append(np.isnan(inside).sum())
            found["n_posinf"].append((inside == np.inf).sum())
            found["n_neginf"].append((inside == -np.inf).sum())
            found["size"].append(np.abs(finite).sum())
        return {name: np.array(column, np.float64) for name, column in found.items()}

    def check(self, low: int | None, high: int | None, wanted: list[int], points: int) -> None:
        """Raise AssertionError unless a range agrees with what was told."""
        answer = self.ask(low, high, wanted, points)
        for place, one in enumerate(wanted):
            column = answer.buckets.column(place)
            expected = self.expect(answer.low, answer.high, answer.buckets.width, one)
            size = expected.pop("size")
            for name in ("step", *FIELDS):
                if name == "sum":
                    apart = np.abs(column[name] - expected[name])
                    assert (np.isnan(apart) == np.isnan(expected[name])).all(), (name, one)
                    assert (np.nan_to_num(apart) <= SUM_TOLERANCE * size).all(), (name, one, apart, size)
                else:
                    np.testing.assert_array_equal(column[name], expected[name], f"{name} of series {one}")

    def follow(self, kept: "Kept | None", wanted: list[int], points: int) -> "Kept":
        """What a page holds that asked with the mark of its last answer; checked against a whole answer."""
        with self.database.reading() as connection:
            question = history.Question(RUN)
            whole = history.read_range(connection, question, wanted, points)
            part = history.read_range(connection, question, wanted, points, kept.mark if kept else "")
        columns = {one: part.buckets.column(place) for place, one in enumerate(wanted)}
        if kept is not None and part.since is not None:
            for one in wanted:
                stays = kept.columns[one]["step"] < part.since
                old = {name: column[stays] for name, column in kept.columns[one].items()}
                columns[one] = {name: np.concatenate([old[name], columns[one][name]]) for name in old}
        for place, one in enumerate(wanted):
            expected = whole.buckets.column(place)
            for name in ("step", *FIELDS):
                if name == "sum":
                    np.testing.assert_allclose(columns[one][name], expected[name], rtol=1e-4, atol=1e32)
                else:
                    np.testing.assert_array_equal(columns[one][name], expected[name], f"{name} of series {one}")
        return Kept(part.mark, columns)

    def follow_map(self, kept: "KeptMap | None", wanted: list[int], columns: int) -> "KeptMap":
        """The same of a map."""
        names = (*heatmap.VALUES, *heatmap.COUNTS)
        with self.database.reading() as connection:
            question = history.Question(RUN)
            whole = heatmap.read(connection, question, wanted, columns, names)
            part = heatmap.read(connection, question, wanted, columns, names, kept.mark if kept else "")
        planes = dict(part.planes)
        if kept is not None and part.since is not None:
            assert part.start == max(part.since, whole.start)
            stays = (part.start - whole.start) // whole.width
            planes = {name: np.concatenate([kept.planes[name][:, :stays], one], 1) for name, one in planes.items()}
        for name, expected in whole.planes.items():
            np.testing.assert_array_equal(planes[name], expected, name)
        return KeptMap(part.mark, planes)

    def check_moment(self, step: int) -> None:
        """Raise AssertionError unless everything as of a step is what was last told of each series."""
        with self.database.reading() as connection:
            found = history.read_moment(connection, history.Question(RUN, None, step))
        expected = {one.series: one.value for one in self.visible() if one.step <= step}
        assert found.values.keys() == expected.keys()
        np.testing.assert_array_equal([found.values[one] for one in expected], list(expected.values()))

    def reload(self) -> "Stored":
        """The same file opened again, as after a restart."""
        self.database.close()
        self.connection.close()
        self.database = Database(self.directory / "stored.db")
        self.connection = self.database.writer()
        return self
