"""Whatever is asked of whatever was told, compacted or not, is what plain numpy makes of the raw values."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from stored import RUN, Stored, shrink
from trainvitals_server.store import heatmap, history

NAMES = [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y"), ("e", "y")]
LAYOUTS = {1: NAMES, 2: NAMES[1:4], 3: [*NAMES[2:], ("f", "y")]}
PLANTED = [np.nan, np.inf, -np.inf, 65504.0, 3e38, -3e38, 0.0]


class Told(RuleBasedStateMachine):
    """Frames come in any cut, from several producers and layouts, while compaction goes on and is cut short."""

    @initialize()
    def begin(self) -> None:
        """One producer to start with."""
        self._patch = pytest.MonkeyPatch()
        shrink(self._patch)
        self._directory = tempfile.TemporaryDirectory()
        self.stored = Stored(Path(self._directory.name))
        self.layouts: dict[tuple[int, int], int] = {}
        self.newest: dict[tuple[int, int], int] = {}
        self.start(0)

    def teardown(self) -> None:
        """Nothing stays behind."""
        if hasattr(self, "stored"):
            self.stored.__exit__()
            self._directory.cleanup()
            self._patch.undo()

    @rule(step=st.integers(0, 200))
    def start(self, step: int) -> None:
        """A process resumes the run at some step; the one before may still have more to tell."""
        if len(self.stored.order) < 3:
            self.producer = self.stored.producer()
            self.first = step

    @rule(
        old=st.booleans(),
        number=st.sampled_from([1, 1, 1, 2, 3]),
        n=st.integers(1, 40),
        gap=st.sampled_from([0, 0, 1, 7, 300]),
        stride=st.sampled_from([1, 1, 1, 3, 50]),
        seed=st.integers(0, 1 << 20),
        planted=st.sampled_from([0.0, 0.02, 0.3]),
        absent=st.sampled_from([0.0, 0.0, 0.1, 0.9]),
    )
    def tell(
        self, old: bool, number: int, n: int, gap: int, stride: int, seed: int, planted: float, absent: float
    ) -> None:
        """A batch of frames, after what the layout had before."""
        producer = self.stored.order[0] if old else self.producer
        key = producer, number
        if key not in self.layouts:
            self.layouts[key] = self.stored.layout(producer, number, *LAYOUTS[number])
        random = np.random.default_rng(seed)
        steps = self.newest.get(key, self.first - 1) + 1 + gap + stride * np.arange(n)
        values = random.normal(size=(n, len(LAYOUTS[number]))).astype(np.float32)
        some = random.random(values.shape) < planted
        values[some] = random.choice(PLANTED, some.sum())
        if absent:
            values = np.ma.masked_array(values, random.random(values.shape) < absent)
        self.stored.tell(producer, self.layouts[key], steps, values)
        self.newest[key] = int(steps[-1])

    @rule(jobs=st.one_of(st.integers(1, 12), st.just(1 << 30)), idle=st.booleans())
    def compact(self, jobs: int, idle: bool) -> None:
        """Some of what is due, perhaps half a plan."""
        self.stored.compact(jobs, idle=idle)

    @rule(
        ends=st.one_of(st.none(), st.tuples(st.integers(0, 3000), st.integers(0, 3000))),
        points=st.sampled_from([1, 2, 5, 20, 200]),
    )
    def ask(self, ends: tuple[int, int] | None, points: int) -> None:
        """Every series over a range."""
        if self.stored.told:
            low, high = (None, None) if ends is None else (min(ends), max(ends))
            self.stored.check(low, high, sorted({one.series for one in self.stored.told}), points)

    @rule(points=st.sampled_from([2, 10]))
    def follow(self, points: int) -> None:
        """A page that asks only for what has changed sees the same as one that asks for everything."""
        if self.stored.told:
            self.kept = self.stored.follow(getattr(self, "kept", None), [1, 3, 5], points)
            self.map = self.stored.follow_map(getattr(self, "map", None), [5, 1, 2], 2 * points)


TestTold = Told.TestCase
TestTold.settings = settings(max_examples=40, stateful_step_count=25, deadline=None, report_multiple_bugs=False)


def filled(directory: Path, n: int = 700) -> Stored:
    """One layout with faults planted among ordinary values."""
    stored = Stored(directory)
    producer = stored.producer()
    layout = stored.layout(producer, 1, *NAMES)
    values = np.random.default_rng(0).normal(size=(n, len(NAMES))).astype(np.float32)
    values[333, 0], values[334, 1], values[335, 2], values[336, 3] = np.nan, np.inf, -np.inf, 60_000
    for low in range(0, n, 37):
        stored.tell(producer, layout, np.arange(low, min(n, low + 37)), values[low : low + 37])
    return stored


def test_a_planted_fault_is_seen_at_every_zoom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN, both infinities and a spike, before compaction, in the middle of it and after it, however wide a bucket."""
    shrink(monkeypatch)
    with filled(tmp_path) as stored:
        for _ in itertools.count():
            for points in (1, 3, 10, 40, 350):
                found = stored.ask(None, None, [1, 2, 3, 4], points).buckets
                assert found.n_nan[:, 0].sum() == 1
                assert found.n_posinf[:, 1].sum() == 1
                assert found.n_neginf[:, 2].sum() == 1
                assert found.max[:, 3].max() == 60_000
            if not stored.compact(9):
                break
        tables = ("spans", "chunks", "buckets")
        assert all(stored.connection.execute(f"SELECT 1 FROM {one}").fetchone() for one in tables)  # noqa: S608
        levels = stored.connection.execute("SELECT max(level) FROM levels").fetchone()[0]
        assert levels >= 1, "there is more than one level to be wrong"


@given(seed=st.integers(0, 1 << 20), second=st.sampled_from([NAMES[3:], NAMES[:3]]))
@example(seed=0, second=NAMES[:3])
@settings(max_examples=20, deadline=None)
def test_a_moment_is_what_was_last_told_of_each_series(seed: int, second: list[tuple[str, str]]) -> None:
    """Of two layouts in use, one of them seldom there, perhaps with the same series, with absent values, compacted at
    any moment: a series may be absent in the newest frame, and told last in a frame of the other layout."""
    random = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as directory:
        shrink(patch)
        with Stored(Path(directory)) as stored:
            producer = stored.producer()
            layouts = [stored.layout(producer, 1, *NAMES[:3]), stored.layout(producer, 2, *second)]
            ends = [0, 5]
            for _ in range(30):
                which = int(random.random() < 0.2)
                n, width = int(random.integers(1, 20)), len(stored.columns[layouts[which]])
                steps = ends[which] + np.cumsum(random.integers(1, 4, n))
                values = np.ma.masked_array(random.normal(size=(n, width)), random.random((n, width)) < 0.8)
                values[random.random((n, width)) < 0.1] = np.nan
                stored.tell(producer, layouts[which], steps, values)
                ends[which] = int(steps[-1])
                stored.compact(int(random.integers(0, 6)))
                for step in random.integers(0, max(ends) + 5, 3).tolist():
                    stored.check_moment(step)


@given(low=st.integers(0, 720), span=st.integers(0, 720), columns=st.integers(2, 90))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_map_is_made_of_the_same_buckets(low: int, span: int, columns: int, compacted: Stored) -> None:
    """In as many columns at most, with every plane, whatever is put together at once."""
    wanted = [3, 1, 2, 5]
    with compacted.database.reading() as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(heatmap, "TOGETHER", 3)
        question = history.Question(RUN, low, low + span)
        found = heatmap.read(connection, question, wanted, columns, [*heatmap.VALUES, *heatmap.COUNTS])
    assert found.columns <= columns
    for row, one in enumerate(wanted):
        expected = compacted.expect(low, low + span, found.width, one)
        place = ((expected["step"] - found.start) // found.width).astype(int)
        empty = np.setdiff1d(np.arange(found.columns), place)
        for name in heatmap.VALUES:
            np.testing.assert_array_equal(found.planes[name][row, place], expected[name].astype(np.float32), name)
            assert np.isnan(found.planes[name][row, empty]).all()
        expected["n_nonfinite"] = expected["n_nan"] + expected["n_posinf"] + expected["n_neginf"]
        for name in heatmap.COUNTS:
            np.testing.assert_array_equal(found.planes[name][row, place], expected[name], name)
            assert (found.planes[name][row, empty] == heatmap.NO_VALUE).all()


@given(low=st.integers(0, 720), span=st.integers(0, 720), points=st.integers(1, 400))
@example(low=0, span=699, points=1)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range_at_any_zoom(low: int, span: int, points: int, compacted: Stored) -> None:
    """Wherever it begins and ends inside buckets, chunks and spans."""
    compacted.check(low, low + span, [1, 3, 5], points)


@pytest.fixture(scope="module")
def compacted(tmp_path_factory: pytest.TempPathFactory) -> object:
    """A run, compacted as far as it goes."""
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        with filled(tmp_path_factory.mktemp("compacted")) as stored:
            stored.compact(idle=True)
            yield stored
