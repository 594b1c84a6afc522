"""The file itself: its mode, its settings, its schema, and what happens when it cannot be used."""

import stat
from contextlib import suppress
from pathlib import Path

import pytest

from trainvitals_server.errors import StoreBusyError
from trainvitals_server.store import journal, schema
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import part, transaction


def test_a_new_database_is_private_durable_and_able_to_shrink(tmp_path: Path) -> None:
    """Mode 0600, write-ahead log, full synchronisation, incremental vacuum."""
    database = Database(tmp_path / "a.db")
    connection = database.writer()
    names = ("journal_mode", "synchronous", "auto_vacuum")
    pragmas = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2}
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_opening_again_applies_no_migration_twice(tmp_path: Path) -> None:
    """What is there stays."""
    for _ in range(2):
        connection = Database(tmp_path / "a.db").writer()
    names = [row[0] for row in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]
    assert names == [migration.name for migration in schema.MIGRATIONS._migrations]


def test_readers_see_a_snapshot_and_cannot_write(tmp_path: Path) -> None:
    """A commit in the middle of a read changes nothing for the reader."""
    database = Database(tmp_path / "a.db")
    writer = database.writer()
    with database.reading() as connection:
        assert journal.audited(connection) == []
        with transaction(writer):
            journal.audit(writer, 1.0, role="view", origin="x", action="y", outcome="z")
        assert journal.audited(connection) == []
        with pytest.raises(Exception, match="readonly"):
            connection.execute("DELETE FROM audit")
    with database.reading() as connection:
        assert len(journal.audited(connection)) == 1


def test_a_read_that_failed_keeps_nobody_in_its_snapshot(tmp_path: Path) -> None:
    """Although whoever looks at the error holds rows that were half read."""
    database = Database(tmp_path / "a.db")
    writer = database.writer()
    with transaction(writer):
        for place in range(2):
            journal.audit(writer, 1.0, role="view", origin="x", action=f"{place}", outcome="z")
    half_read = []
    with suppress(KeyError), database.reading() as connection:
        half_read.append(connection.execute("SELECT action FROM audit"))
        half_read[0].fetchone()
        raise KeyError
    with transaction(writer):
        journal.audit(writer, 1.0, role="view", origin="x", action="later", outcome="z")
    with database.reading() as connection:
        assert len(journal.audited(connection)) == 3
    del half_read
    database.close()
    writer.close()


@pytest.mark.parametrize("statement", ["DELETE FROM audit", "UPDATE audit SET outcome = 'other'"])
def test_the_audit_cannot_be_changed(tmp_path: Path, statement: str) -> None:
    """Not even by the writer."""
    writer = Database(tmp_path / "a.db").writer()
    with transaction(writer):
        journal.audit(writer, 1.0, role="view", origin="x", action="y", outcome="z")
    with pytest.raises(StoreBusyError, match="append-only"), transaction(writer):
        writer.execute(statement)


def test_a_part_that_raises_is_undone_alone(tmp_path: Path) -> None:
    """The transaction around it goes on."""
    writer = Database(tmp_path / "a.db").writer()
    with transaction(writer):
        journal.audit(writer, 1.0, role="view", origin="x", action="kept", outcome="z")
        with suppress(KeyError), part(writer):
            journal.audit(writer, 1.0, role="view", origin="x", action="lost", outcome="z")
            raise KeyError
    assert [row["action"] for row in journal.audited(writer)] == ["kept"]


def test_a_file_that_is_no_database_is_named_in_one_line(tmp_path: Path) -> None:
    """No traceback for a wrong path."""
    (tmp_path / "a.db").write_bytes(b"this is not a database, not at all" * 100)
    with pytest.raises(StoreBusyError, match="cannot be opened: file is not a database"):
        Database(tmp_path / "a.db")
