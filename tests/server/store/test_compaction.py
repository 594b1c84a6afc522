"""Compaction killed anywhere loses nothing and doubles nothing; what it does is small and comes to an end."""

import itertools
import shutil
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlite_utils

import compacting
from stored import RUN, Stored, shrink
from trainvitals_server.store import compaction, deletion, frames, points, runs, schema, shelves
from trainvitals_server.store.schema import pyramid
from trainvitals_server.store.transactions import transaction

NAMES = [(f"layer{place}", "x") for place in range(9)] + [("a", "y"), ("b", "z")]
POINTS = (1, 7, 60, 400)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans and levels of a few frames."""
    shrink(monkeypatch)


def fill(directory: Path, n: int = 300, stride: int = 1) -> Stored:
    """A run of one layout, with gaps, absences and faults."""
    stored = Stored(directory)
    producer = stored.producer()
    layout = stored.layout(producer, 1, *NAMES)
    random = np.random.default_rng(0)
    values = random.normal(size=(n, len(NAMES))).astype(np.float32)
    values[random.random(values.shape) < 0.01] = np.nan
    steps = np.arange(n) * stride + 50 * stride * (np.arange(n) > n // 2)
    for low in range(0, n, 23):
        part = slice(low, low + 23)
        some = values[part]
        if low % 2:
            some = np.ma.masked_array(some, random.random(some.shape) < 0.1)
        stored.tell(producer, layout, steps[part], some)
    return stored


def check(stored: Stored) -> None:
    """Every zoom, over all and over a part."""
    for some in POINTS:
        stored.check(None, None, [1, 5, 10, 11], some)
        stored.check(33, 211, [2, 9], some)


class Failing:
    """A connection that breaks at the n-th statement."""

    def __init__(self, connection: sqlite3.Connection, n: int) -> None:
        self._connection = connection
        self.left = n

    def execute(self, *statement: Any) -> sqlite3.Cursor:
        """The statement, or the end."""
        self.left -= 1
        if self.left < 0:
            raise InterruptedError("here")
        return self._connection.execute(*statement)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_a_job_broken_off_at_any_statement_changes_nothing(tmp_path: Path) -> None:
    """Every statement of every job is the last one once; between any two of them the answers are right."""
    with fill(tmp_path, 120) as stored:
        broken = 0
        while plan := compaction.plan(stored.connection, 1):
            for job in itertools.chain(*plan):
                n = 0
                while True:
                    failing = Failing(stored.connection, n)
                    with suppress(InterruptedError), transaction(stored.connection):
                        job(failing)  # type: ignore[arg-type]
                        break
                    broken += 1
                    n += 1
                stored.check(None, None, [1, 5, 10], 7)
        assert broken > 50
        check(stored)


def test_a_process_killed_in_the_middle_left_everything(tmp_path: Path) -> None:
    """At random statements, again and again over what the last one left, until one comes to the end."""
    with fill(tmp_path / "a") as stored:
        random = np.random.default_rng(1)
        codes = []
        while not codes or codes[-1]:
            command = [sys.executable, compacting.__file__, str(stored.directory), str(random.integers(40, 700))]
            codes.append(subprocess.run(command, check=False, timeout=300).returncode)
            assert set(codes) <= {0, 9}
            check(stored)
            assert len(codes) < 60
        assert codes.count(9) >= 2
        assert not stored.compact(idle=True), "nothing is left to do"
        assert stored.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        n = stored.connection.execute("SELECT sum(n) FROM spans").fetchone()[0]
        assert n + stored.connection.execute("SELECT coalesce(sum(n), 0) FROM frames").fetchone()[0] == 300


def test_each_job_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No job of a wide layout writes more than it may, but for a row and a few pages of the trees."""
    monkeypatch.undo()
    with Stored(tmp_path) as stored:
        producer = stored.producer()
        layout = stored.layout(producer, 1, *((f"l{place}", "x") for place in range(1000)))
        values = np.random.default_rng(0).normal(size=(1400, 1000)).astype(np.float32)
        stored.tell(producer, layout, np.arange(1400), values)
        sizes = []
        while plan := compaction.plan(stored.connection, layout):
            for job in itertools.chain(*plan):
                stored.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                with transaction(stored.connection):
                    job(stored.connection)
                sizes.append((tmp_path / "stored.db-wal").stat().st_size)
        assert max(sizes) <= 1.5 * compaction.JOB_BYTES
        assert len(sizes) > 4


def test_the_points_of_a_series_are_all_there_hot_or_not(tmp_path: Path) -> None:
    """In order, as they were told."""
    with fill(tmp_path) as stored:
        stored.compact(25)
        found = list(points.of_series(stored.connection, RUN, 3))
        steps = np.concatenate([one[1] for one in found])
        told = [(one.step, one.value) for one in stored.told if one.series == 3]
        np.testing.assert_array_equal(steps, [step for step, _ in told])
        np.testing.assert_array_equal(np.concatenate([one[2] for one in found]), steps + 0.5)
        np.testing.assert_array_equal(np.concatenate([one[3] for one in found]), np.float32([v for _, v in told]))
        near = points.nearest(stored.connection, 1, 160)
        assert near == (150, 150.5), "steps 151 to 200 are missing"
        assert points.nearest(stored.connection, 1, -1) is None
        assert points.next_step(stored.connection, 1, 150) == 201
        assert points.next_step(stored.connection, 1, 349) is None
        assert points.next_step(stored.connection, 1, 3) == 4


def test_deleting_a_run_leaves_no_point_of_it(tmp_path: Path) -> None:
    """A bounded part at a time; its layouts go too."""
    with fill(tmp_path) as stored:
        stored.compact(40)
        while True:
            with transaction(stored.connection):
                if not deletion.sweep(stored.connection, RUN):
                    break
        tables = ("frames", "fresh_buckets", "spans", "chunks", "buckets", "levels", "blocks", "shelves", "layouts")
        left = {one: stored.connection.execute(f"SELECT count(*) FROM {one}").fetchone()[0] for one in tables}  # noqa: S608
        assert set(left.values()) == {0}


def older(directory: Path) -> Stored:
    """A database as the version before left it: frames, and nothing made of them."""
    stored = fill(directory, 200)
    for table in ("levels", "fresh_buckets", "buckets", "chunks", "spans", "blocks", "shelves"):
        stored.connection.execute(f"DROP TABLE {table}")
    stored.connection.execute("ALTER TABLE frames DROP COLUMN checksum")
    stored.connection.execute("DELETE FROM _sqlite_migrations WHERE name IN ('pyramid', 'checksums')")
    return stored.reload()


def test_frames_of_before_get_their_buckets_bit_by_bit(tmp_path: Path) -> None:
    """Answers are right before, meanwhile and afterwards, also about what comes in between."""
    with older(tmp_path) as stored:
        assert shelves.list_all(stored.connection)[0].behind
        check(stored)
        step = 1000
        for _ in range(12):
            stored.compact(2)
            stored.tell(1, 1, np.arange(step, step + 5), np.ones((5, len(NAMES)), np.float32))
            stored.check(None, None, [1, 5], 20)
            step += 5
        stored.compact()
        check(stored)
        shelf = shelves.list_all(stored.connection)[0]
        assert not shelf.behind
        assert shelf.packed > 200


def test_what_would_be_dear_to_read_back_is_left_to_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames that came much denser than the first ones did."""
    monkeypatch.setattr(frames, "TAIL_ROWS", 8)
    with fill(tmp_path, 12, stride=100) as stored:
        for step in range(10_000, 10_600):
            stored.tell(1, 1, np.array([step]), np.full((1, len(NAMES)), step, np.float32))
        assert shelves.list_all(stored.connection)[0].behind
        check(stored)
        stored.compact()
        assert not shelves.list_all(stored.connection)[0].behind
        check(stored)


def test_a_migration_killed_half_way_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one transaction."""
    older(tmp_path).__exit__()
    shutil.copy(tmp_path / "stored.db", tmp_path / "kept.db")
    broken = sqlite_utils.Database(tmp_path / "kept.db")
    for table in ("levels", "fresh_buckets", "buckets", "chunks", "spans", "blocks", "shelves"):
        broken.execute(f"DROP TABLE {table}")
    broken.execute("ALTER TABLE frames DROP COLUMN checksum")
    broken.execute("DELETE FROM _sqlite_migrations WHERE name IN ('pyramid', 'checksums')")
    with monkeypatch.context() as patch:
        patch.setattr(pyramid, "STATEMENTS", (*pyramid.STATEMENTS[:5], "SELECT nonsense"))
        with pytest.raises(sqlite3.OperationalError, match="nonsense"):
            schema.migrate(broken)
    assert "shelves" not in broken.table_names()
    schema.migrate(broken)
    assert runs.get(broken.conn, RUN) is not None
    assert "shelves" in broken.table_names()
    broken.close()
