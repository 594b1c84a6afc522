"""What the tables say of one another: whoever changes a watermark, a bound or a count by hand hides rows that are
there, and `check` notices; while everything is as it should be it has nothing to say, however far compaction is."""

import itertools
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from stored import RUN, Stored, shrink
from trainvitals_server.store import checking, compaction, history, points
from trainvitals_server.store.database import DAMAGE
from trainvitals_server.store.transactions import transaction

NAMES = [(f"layer{place}", "x") for place in range(9)] + [("a", "y")]


def no_progress(done: int, total: int) -> None:
    """Nobody watches."""


def fill(directory: Path, n: int = 300, stride: int = 3) -> Stored:
    """A run of two producers, the first of which told by two layouts, with a gap and absences."""
    stored = Stored(directory)
    random = np.random.default_rng(0)
    for start in (0, n * stride * 2 // 3):
        producer = stored.producer()
        for number, names in enumerate((NAMES, NAMES[:1])[: 1 if start else 2]):
            layout = stored.layout(producer, number, *names)
            steps = start + np.arange(n) * stride + 50 * stride * (np.arange(n) > n // 2)
            values = random.normal(size=(n, len(names))).astype(np.float32)
            for low in range(0, n, 23):
                part = slice(low, low + 23)
                some = np.ma.masked_array(values[part], random.random(values[part].shape) < 0.1 * (low % 2))
                stored.tell(producer, layout, steps[part], some)
    return stored


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Frames in spans, in buckets of several levels, and hot ones."""
    shrink(monkeypatch)
    with fill(tmp_path) as made:
        made.compact()
        counts = {
            table: made.connection.execute(f"SELECT count(*) FROM {table} WHERE layout = 1").fetchone()[0]  # noqa: S608
            for table in ("frames", "spans", "fresh_buckets", "levels")
        }
        assert min(counts.values()) > 0, counts
    return made


def problems(directory: Path) -> list[str]:
    return checking.check(directory / "stored.db", no_progress).problems


def test_what_is_sound_has_nothing_to_tell_at_any_stage_of_compaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every job, half a stage included; leftovers are no contradiction."""
    shrink(monkeypatch)
    with fill(tmp_path, 90) as stored:
        assert problems(tmp_path) == []
        for layout in stored.columns:
            while plan := compaction.plan(stored.connection, layout, idle=True):
                for job in itertools.chain(*plan):
                    with transaction(stored.connection):
                        job(stored.connection)
                    assert problems(tmp_path) == []


CHANGED = {
    "packed too high": ("UPDATE shelves SET packed = packed + 60 WHERE layout = 1", "in spans up to step"),
    "packed too low": ("UPDATE shelves SET packed = packed - 60 WHERE layout = 1", "in spans up to step"),
    "packed forgotten": ("UPDATE shelves SET packed = -1 WHERE layout = 1", "in spans up to step -1, they end at"),
    "bucketed too high": ("UPDATE shelves SET bucketed = bucketed + 64 WHERE layout = 1", "which hold other frames"),
    "a width of another": ("UPDATE shelves SET width = width * 2 WHERE layout = 1", "which hold other frames"),
    "a width that is none": ("UPDATE shelves SET width = -16 WHERE layout = 1", "expected a power of two"),
    "a watermark in words": ("UPDATE shelves SET packed = 'far' WHERE layout = 1", "in spans up to step far"),
    "no shelf": ("DELETE FROM shelves WHERE layout = 1", "nothing says how far they have come"),
    "a level too high": ("UPDATE levels SET reach = reach * 2 WHERE layout = 1 AND level = 1", "hold other frames"),
    "level 0 too high": ("UPDATE levels SET reach = reach + 64 WHERE layout = 1 AND level = 0", "hold other frames"),
    "a reach in words": ("UPDATE levels SET reach = 'far' WHERE layout = 1", "cannot be read"),
    "buckets lost": ("DELETE FROM fresh_buckets WHERE layout = 1", "which hold other frames"),
    "a row of buckets lost": (
        "DELETE FROM buckets WHERE level = 0 AND start = 0 AND block = (SELECT min(id) FROM blocks WHERE layout = 1)",
        "which hold other frames",
    ),
    "a row of another block lost": (
        "DELETE FROM buckets WHERE level = 0 AND start = 0 AND block = (SELECT max(id) FROM blocks WHERE layout = 1)",
        "rows of buckets of block",
    ),
    "a chunk lost": ("DELETE FROM chunks WHERE id = (SELECT min(id) FROM chunks)", "chunks of block"),
    "a span lost": ("DELETE FROM spans WHERE id = (SELECT min(id) FROM spans WHERE layout = 1)", "hold other frames"),
    "a span that ends too soon": ("UPDATE spans SET last_step = last_step - 1 WHERE layout = 1", "a row of spans says"),
    "a row that begins too late": (
        "UPDATE frames SET first_step = first_step + 1 WHERE id = (SELECT max(id) FROM frames)", "a row of frames says",
    ),
    "a producer cut short": ("UPDATE producers SET last_step = last_step - 1 WHERE id = 2", "is said to have told"),
    "a producer that begins late": ("UPDATE producers SET first_step = 5 WHERE id = 1", "is said to have told steps"),
    "a producer without steps": ("UPDATE producers SET first_step = NULL WHERE id = 2", "is said to have told steps"),
    "frames miscounted": ("UPDATE producers SET frames = frames + 1 WHERE id = 1", "frames, it has 600"),
    "another's column": (
        "UPDATE layouts SET columns ="
        " CAST(substr(columns, 9, 8) || substr(columns, 1, 8) || substr(columns, 17) AS BLOB) WHERE id = 1",
        "are not the series that it declares",
    ),
    "a column kept nowhere": (
        "UPDATE blocks SET columns = substr(columns, 1, length(columns) - 4) WHERE layout = 1", "each in one of its",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGED)
def test_a_claim_that_is_wrong_is_noticed(name: str, stored: Stored) -> None:
    """By what it says, and by nothing else going wrong."""
    sql, said = CHANGED[name]
    with closing(sqlite3.connect(stored.directory / "stored.db")) as connection, connection:
        assert connection.execute(sql).rowcount > 0
    found = problems(stored.directory)
    assert any(said in problem for problem in found), found
    assert all(problem.startswith(f"run {RUN}: ") and len(problem.splitlines()) == 1 for problem in found)


@pytest.mark.parametrize("name", ["a chunk lost", "a row of another block lost", "a column kept nowhere"])
def test_what_is_not_there_is_never_read_as_data(name: str, stored: Stored) -> None:
    """Room that was made for values and not filled holds anything."""
    with closing(sqlite3.connect(stored.directory / "stored.db")) as connection, connection:
        connection.execute(CHANGED[name][0])
        connection.row_factory = sqlite3.Row
        with pytest.raises(DAMAGE):  # noqa: PT012  # one of the two, by what was lost
            list(points.read(connection, 1, len(NAMES), 0, 1 << 40))
            history.read_range(connection, history.Question(RUN, producer="p-0"), list(range(1, 11)), 60)
