"""Frames come back as they went in."""

from pathlib import Path

import numpy as np
import pytest

from served import identify
from trainvitals_server.store import frames, points, runs, series
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import Connection, transaction


@pytest.fixture
def connection(tmp_path: Path) -> Connection:
    """A database with one producer and one layout (row id 1) of three columns."""
    made = Database(tmp_path / "test.db").writer()
    with transaction(made):
        runs.enter(made, identify(), 0.0)
        series.save(made, 1, 7, np.array([1, 2, 3]), [None, None, None])
    return made


def test_rows_are_cut_and_joined_without_a_trace(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows a stretch was cut into, and wherever a range begins and ends."""
    monkeypatch.setattr(frames, "MAX_ROW_BYTES", 5 * 12)
    monkeypatch.setattr(frames, "READ_BYTES", 100)
    steps = np.arange(10, 210, 2)
    values = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    values[3, 1] = np.nan
    present = np.random.default_rng(1).random((100, 3)) > 0.1
    with transaction(connection):
        frames.add(connection, 1, frames.Stretch(steps, steps / 2, values, present))
    assert connection.execute("SELECT count(*) FROM frames").fetchone()[0] == 20
    found = list(points.read(connection, 1, 3, 33, 150))
    wanted = (steps >= 33) & (steps <= 150)
    assert len(found) > 1
    np.testing.assert_array_equal(np.concatenate([one.steps for one in found]), steps[wanted])
    np.testing.assert_array_equal(np.concatenate([one.values for one in found]), values[wanted])
    there = [one.present for one in found if one.present is not None]
    np.testing.assert_array_equal(np.concatenate(there), present[wanted])
    np.testing.assert_array_equal(np.concatenate([one.times for one in found]), steps[wanted] / 2)


def test_a_frame_that_would_not_follow_is_kept_out_by_the_database_too(connection: Connection) -> None:
    """The same first step twice in one layout is impossible."""
    one = frames.Stretch(np.array([1]), np.zeros(1), np.zeros((1, 3), np.float32), None)
    with transaction(connection):
        frames.add(connection, 1, one)
    with pytest.raises(Exception, match="UNIQUE"), transaction(connection):
        frames.add(connection, 1, one)
