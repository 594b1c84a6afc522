"""The one writer: what it commits together, and what it does when it cannot."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from served import identify, until
from trainvitals_server.changes import Changes
from trainvitals_server.clock import Clock
from trainvitals_server.errors import StoreBusyError
from trainvitals_server.ingest import writer as writer_module
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.ingest.writer import Writer
from trainvitals_server.store import database as database_module
from trainvitals_server.store import runs
from trainvitals_server.store.database import Database


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A fresh one, which waits for nobody."""
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.05)
    made = Database(tmp_path / "test.db")
    yield made
    made.close()


@pytest.fixture
def published() -> list[Changes]:
    """What was published."""
    return []


@pytest.fixture
def writer(database: Database, published: list[Changes]) -> Iterator[Writer]:
    """A running writer."""
    made = Writer(database, published.append, lambda: None, Clock())
    made.start()
    yield made
    made.close()


def enter(name: str) -> object:
    """A job that enters a run."""

    def job(tx: Transaction) -> str:
        runs.enter(tx.connection, identify(run=name), tx.now)
        tx.changes[name].stored += 1
        return name

    return job


def names(database: Database) -> set[str]:
    with database.reading() as connection:
        return set(runs.list_ids(connection))


def test_what_is_queued_is_committed_together(
    writer: Writer, database: Database, published: list[Changes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One transaction, one publication, and the answers after it."""
    monkeypatch.setattr(writer_module, "MAX_SECONDS", 10.0)
    gate = threading.Event()
    first = writer.submit(lambda tx: gate.wait(10))
    rest = [writer.submit(enter(f"run-{place}")) for place in range(20)]  # type: ignore[arg-type]
    gate.set()
    assert first.result(10)
    assert [future.result(10) for future in rest] == [f"run-{place}" for place in range(20)]
    assert len(names(database)) == 20
    assert len([changes for changes in published if changes]) == 1


def test_a_job_that_raises_is_undone_alone(writer: Writer, database: Database, published: list[Changes]) -> None:
    """The others of its transaction are committed, and nobody hears of what was undone."""
    gate = threading.Event()
    writer.submit(lambda tx: gate.wait(10))

    def bad(tx: Transaction) -> None:
        enter("lost")(tx)  # type: ignore[operator]
        raise KeyError("reason")

    before, failed, after = writer.submit(enter("a")), writer.submit(bad), writer.submit(enter("b"))  # type: ignore[arg-type]
    gate.set()
    assert (before.result(10), after.result(10)) == ("a", "b")
    with pytest.raises(KeyError, match="reason"):
        failed.result(10)
    assert names(database) == {"a", "b"}
    assert all("lost" not in changes for changes in published)


def test_a_locked_database_is_told_and_heals(writer: Writer, database: Database) -> None:
    """Everybody is told to come again; nothing is half done."""
    with sqlite3.connect(database.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusyError, match="locked"):
            writer.submit(enter("a")).result(10)  # type: ignore[arg-type]
        assert "locked" in writer.trouble
        other.execute("ROLLBACK")
    other.close()
    assert writer.submit(enter("a")).result(10) == "a"  # type: ignore[arg-type]
    assert writer.trouble == ""
    assert names(database) == {"a"}


def test_any_trouble_of_the_database_is_told_and_none_ends_the_writer(writer: Writer, database: Database) -> None:
    """A damaged page is nobody's own fault; a row that may not be is its job's."""

    def damaged(tx: Transaction) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    def twice(tx: Transaction) -> None:
        tx.connection.execute("INSERT INTO sessions VALUES ('a', 'b', NULL, 1.0)")

    with pytest.raises(StoreBusyError, match="malformed"):
        writer.submit(damaged).result(10)
    with pytest.raises(sqlite3.IntegrityError):
        writer.submit(twice).result(10)
    assert writer.submit(enter("a")).result(10) == "a"  # type: ignore[arg-type]


def test_what_cannot_be_published_is_stored_all_the_same(database: Database) -> None:
    """And the thread lives on."""

    def fail(changes: Changes) -> None:
        raise RuntimeError("nobody listens")

    writer = Writer(database, fail, lambda: None, Clock())
    writer.start()
    for name in ("a", "b"):
        assert writer.submit(enter(name)).result(10) == name  # type: ignore[arg-type]
    writer.close()
    assert names(database) == {"a", "b"}


def test_nothing_is_accepted_after_the_end(writer: Writer, database: Database) -> None:
    """What was queued before is done."""
    last = writer.submit(enter("a"))  # type: ignore[arg-type]
    writer.close()
    assert last.result(0) == "a"
    with pytest.raises(StoreBusyError, match="going down"):
        writer.submit(enter("b")).result(10)  # type: ignore[arg-type]
    until(lambda: not writer.is_alive())


def test_the_books_are_forgotten_only_where_they_were_used(database: Database) -> None:
    """A refused hello makes nobody else's be read again; a failed transaction does."""
    forgotten = list[str]()
    writer = Writer(database, lambda changes: None, lambda: forgotten.append("once"), Clock())
    writer.start()

    def bad(tx: Transaction, *, booked: bool) -> None:
        tx.booked = booked
        raise KeyError

    for booked, times in ((False, 0), (True, 1)):
        with pytest.raises(KeyError):
            writer.submit(lambda tx, booked=booked: bad(tx, booked=booked)).result(10)  # type: ignore[misc]
        assert len(forgotten) == times

    def damaged(tx: Transaction) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    with pytest.raises(StoreBusyError):
        writer.submit(damaged).result(10)
    assert len(forgotten) == 2
    writer.close()
