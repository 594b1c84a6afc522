"""A running server compacts in the background, and nobody who asks can tell."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from served import Served, frame, layout, until
from stored import Stored
from trainvitals import wire
from trainvitals_server import compactor
from trainvitals_server.store import compaction, shelves
from trainvitals_server.store.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Stored]:
    """One without a server."""
    with Stored(tmp_path) as made:
        yield made


COLUMNS = [(f"layer{place}", wire.PARAMETER, wire.GRAD_NORM) for place in range(12)]
RUN = "/api/runs/run-1"


def rows(served: Served, table: str) -> int:
    """How many rows a table has."""
    with closing(sqlite3.connect(served.directory / "trainvitals.db")) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def answers(served: Served) -> list[Any]:
    """Everything that is asked of frames."""
    zooms = [served.get(f"{RUN}/data", series="1,12", points=points) for points in (1, 20, 400)]
    plain = [{key: value for key, value in zoom.items() if key != "mark"} for zoom in zooms]
    return [*plain, served.get(f"{RUN}/at", step=123), served.get(f"{RUN}/heatmap", kind="parameter", stat="grad_norm")]


def test_answers_are_the_same_before_and_after(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames become spans while the trainer goes on, and those of a run that has ended do so whatever there are."""
    monkeypatch.setattr(compaction, "SPAN_FRAMES", 1 << 20)
    monkeypatch.setattr(compactor, "IDLE_PAUSES", 1)
    values = [[float(step % 7 + place) for place in range(12)] for step in range(400)]
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(*COLUMNS), *[frame(step, row) for step, row in enumerate(values[:200])])
        before = answers(served)
        monkeypatch.setattr(compaction, "SPAN_FRAMES", 64)
        trainer.store(*[frame(step, row) for step, row in enumerate(values[200:], 200)])
        until(lambda: rows(served, "spans") and rows(served, "chunks"))
        whole = answers(served)
        assert whole[3]["values"] == before[3]["values"]
        trainer.store(wire.Lifecycle(step=400, time=1e6, state="finished", reason=""))
    until(lambda: rows(served, "spans") >= 2 or rows(served, "frames") <= 1)
    assert answers(served)[:3] == whole[:3]
    assert answers(served)[4] == whole[4]


def test_what_is_gone_is_not_remembered(tmp_path: Path) -> None:
    """A row id that was freed may be another layout's, which is looked at and complained about anew."""
    database = Database(tmp_path / "a.db")
    task = compactor.Compactor(database)
    with closing(database.writer()) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        shelves.make(connection, 1, 0)
        (shelf,) = task.changed()
        task.note(shelf)
        assert task.changed() == []
        connection.execute("DELETE FROM shelves")
        assert task.changed() == []
        shelves.make(connection, 1, 0)
    assert task.changed() == [shelf]
    database.close()


def test_a_layout_that_cannot_be_read_keeps_no_other_from_being_compacted(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log, once."""
    monkeypatch.setattr(compaction, "SPAN_FRAMES", 64)
    frames = [frame(step, [1.0] * 12) for step in range(200)]
    with served.trainer() as trainer, served.trainer(run="run-2", producer="p-2") as other:
        trainer.hello()
        trainer.store(layout(*COLUMNS), frame(0, [1.0] * 12))
        with closing(sqlite3.connect(served.directory / "trainvitals.db", isolation_level=None)) as connection:
            connection.execute("UPDATE frames SET steps = x'00'")
        trainer.store(*frames[100:])
        other.hello()
        other.store(layout(*COLUMNS), *frames, frame(900, [1.0] * 12))
        other.store(frame(990, [1.0] * 12))
        until(lambda: rows(served, "spans"))
        until(lambda: "layout 1 could not be compacted" in caplog.text)
    assert caplog.text.count("could not be compacted") == 1


def test_what_was_deleted_is_not_remembered(database: Stored) -> None:
    """Neither that it was looked at nor that there was trouble with it."""
    layouts = [database.layout(database.producer(), number, ("a", "min")) for number in range(2)]
    for one in layouts:
        database.tell(database.order[0], one, np.arange(4), np.ones((4, 1), np.float32))
    looking = compactor.Compactor(database.database)
    for shelf in looking.changed():
        looking.note(shelf)
    looking.complain(layouts[0])
    database.connection.execute("DELETE FROM shelves WHERE layout = ?", (layouts[0],))
    assert looking.changed() == []
    assert set(looking._seen) == {layouts[1]}
    assert not looking._troubled
