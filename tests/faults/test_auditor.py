"""The auditor finds what it is there to find: in a copy of a database that is right, and then is not."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from auditor import Audit, audit, reading
from ledger import Producer, Record
from served import Served, frame, layout
from trainvitals import wire

NOTICE = wire.Notice(step=3, time=1.0, code="x", text="y")
TOLD = [Record("layout", -1, 1), *(Record("frame", step, 1) for step in range(3)), Record("notice", 3, -1)]


@pytest.fixture
def database(private_home: Path, tmp_path: Path) -> Path:
    """A copy of what a real server stored of five records and a gap of two."""
    with Served(private_home) as served, served.trainer("r", "p") as trainer:
        trainer.hello()
        trainer.store(layout(("", wire.RUN, wire.LOSS)), *[frame(step, [1.0]) for step in range(3)], NOTICE)
        trainer.store(wire.Gap(count=2, reason="thinned", since=0.0, until=1.0, through=6))
    copy = tmp_path / "copy.db"
    with closing(reading(private_home / "trainvitals.db")) as source, closing(sqlite3.connect(copy)) as sink:
        source.backup(sink)
    return copy


def look(database: Path, records: list[Record], acked: int) -> Audit:
    """Audit what a producer tells."""
    told = Producer(dict(enumerate(records)), dict.fromkeys(range(len(records)), 0.0), [(acked, 0.0)])
    return audit(database, "r", {"p": told})


def change(database: Path, statement: str) -> None:
    """Do harm."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)


def test_what_is_right_is_right(database: Path) -> None:
    """Numbers 5 and 6 lie in the gap."""
    found = look(database, [*TOLD, Record("frame", 4, 1), Record("frame", 5, 1)], acked=6)
    assert found == Audit(acked=7, stored=5, lost=0, duplicated=0, gaps=2)


def test_what_was_acked_and_is_not_there_is_found(database: Path) -> None:
    """Behind the watermark, and below it."""
    beyond = look(database, [*TOLD, *[Record("frame", step, 1) for step in (4, 5, 6)]], acked=7)
    assert beyond.lost == 1
    assert "7 was acked, the watermark is 6" in beyond.breaches[0]
    change(database, "DELETE FROM events WHERE seq = 4")
    within = look(database, TOLD, acked=4)
    assert within.lost == 1
    assert "neither stored nor in a gap: [4]" in within.breaches[0]


@pytest.mark.parametrize(
    ("statement", "breach"),
    [
        (
            "INSERT INTO events (run, producer, seq, step, time, type, record)"
            " SELECT run, producer, seq, step, time, type, record FROM events WHERE seq = 4",
            "stored more than once",
        ),
        (
            'INSERT INTO frames (layout, first_step, last_step, n, steps, times, "values")'
            ' SELECT layout, 7, 7, n, steps, times, "values" FROM frames LIMIT 1',
            "stored more than once",
        ),
        ("UPDATE events SET seq = 9 WHERE seq = 4", "not stored in the order of their numbers"),
    ],
)
def test_what_is_there_twice_or_out_of_order_is_found(database: Path, statement: str, breach: str) -> None:
    """Events and frames."""
    change(database, statement)
    assert any(breach in one for one in look(database, TOLD, acked=4).breaches)
