"""Frames come back as they went in."""

from pathlib import Path

import numpy as np
import pytest

from served import identify
from trainvitals_server.store import frames, runs, series
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
    found = list(frames.read(connection, 1, 3, 33, 150))
    wanted = (steps >= 33) & (steps <= 150)
    assert len(found) > 1
    np.testing.assert_array_equal(np.concatenate([one.steps for one in found]), steps[wanted])
    np.testing.assert_array_equal(np.concatenate([one.values for one in found]), values[wanted])
    there = [one.present for one in found if one.present is not None]
    np.testing.assert_array_equal(np.concatenate(there), present[wanted])
    np.testing.assert_array_equal(np.concatenate([one.times for one in found]), steps[wanted] / 2)


def test_the_newest_frame_at_a_step_is_the_nearest_before_it(connection: Connection) -> None:
    """Between two frames it is the earlier one; before the first there is none."""
    steps = np.array([4, 8, 16])
    with transaction(connection):
        frames.add(connection, 1, frames.Stretch(steps, steps * 1.0, np.ones((3, 3), np.float32), None))
    found = [frames.known(connection, 1, 3, step) for step in (3, 4, 7, 15, 16, 99)]
    assert [int(one.steps[0]) if one else None for one in found] == [None, 4, 4, 8, 16, 16]


def test_what_a_frame_lacks_is_as_it_was_last_told(connection: Connection) -> None:
    """In the same row or in an earlier one; what was never told stays absent, and the future does not count."""
    present = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0]], np.bool_)
    values = np.arange(9, dtype=np.float32).reshape(3, 3)
    with transaction(connection):
        for start in (0, 10):
            frames.add(connection, 1, frames.Stretch(np.arange(3) + start, np.zeros(3), values + start, present))
    found = {step: frames.known(connection, 1, 3, step) for step in (0, 2, 10, 12)}
    told = {
        step: [value if there else None for value, there in zip(one.values[0].tolist(), one.present[0], strict=True)]
        for step, one in found.items()
        if one is not None and one.present is not None
    }
    assert told == {0: [0, None, None], 2: [6, 4, None], 10: [10, 4, None], 12: [16, 14, None]}


def test_a_frame_that_would_not_follow_is_kept_out_by_the_database_too(connection: Connection) -> None:
    """The same first step twice in one layout is impossible."""
    one = frames.Stretch(np.array([1]), np.zeros(1), np.zeros((1, 3), np.float32), None)
    with transaction(connection):
        frames.add(connection, 1, one)
    with pytest.raises(Exception, match="UNIQUE"), transaction(connection):
        frames.add(connection, 1, one)
