"""The size of the write-ahead log, with readers of this server and of another process; and reads that last too long."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from trainvitals_server.errors import SlowReadError, StoreBusyError
from trainvitals_server.store import database as database_module
from trainvitals_server.store import journal, wal
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import transaction
from trainvitals_server.store.wal import Log

MIB = 1 << 20
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database whose log may have 1 MiB, and whose readers a fifth of a second."""
    monkeypatch.setattr(wal, "HIGH", MIB)
    monkeypatch.setattr(wal, "CHECKPOINT_PAGES", 64)
    monkeypatch.setattr(wal, "OWN_SECONDS", 5.0)
    monkeypatch.setattr(wal, "OTHERS_SECONDS", 0.0)
    monkeypatch.setattr(database_module, "READ_SECONDS", 0.2)
    made = Database(tmp_path / "test.db")
    yield made
    made.close()


class Writing:
    """The writer's part: 100 KiB per commit, at times that are given."""

    def __init__(self, database: Database) -> None:
        self.now = 0.0
        self.commits = 0
        self.connection = database.writer()
        self.log = Log(self.connection, database.path, lambda: self.now)

    def __enter__(self) -> "Writing":
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def commit(self) -> None:
        self.now += wal.PAUSE_SECONDS
        self.log.check()
        with transaction(self.connection):
            journal.audit(self.connection, 1.0, role="x" * 100_000, origin="x", action="y", outcome="z")
        self.log.tend()

    def commit_until_refused(self, most: int) -> None:
        """Raises StoreBusyError."""
        for _ in range(most):
            self.commit()
            self.commits += 1
            assert bool(self.log.warning) == (self.log.size() > MIB)


def test_readers_of_this_server_that_overlap_for_ever_do_not_let_the_log_grow(database: Database) -> None:
    """Each is ended after its time, and the writer waits for that once."""
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            with suppress(SlowReadError), database.reading() as connection:
                journal.audited(connection, "none")
                connection.execute(ENDLESS).fetchone()

    readers = [threading.Thread(target=read) for _ in range(2)]
    with Writing(database) as writing:
        for reader in readers:
            writing.commit()
            reader.start()
        sizes = []
        try:
            for _ in range(60):
                writing.commit()
                sizes.append(writing.log.size())
        finally:
            over.set()
            for reader in readers:
                reader.join()
        assert max(sizes) < MIB + 300_000
        assert sizes.count(0) >= 3
        assert writing.log.warning == ""


def test_behind_a_reader_of_another_process_the_log_grows_with_a_warning_up_to_its_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then nothing is written until it has gone; all that was committed is there."""
    monkeypatch.setattr(wal, "MOST", 3 * MIB)
    monkeypatch.setattr(wal, "OWN_SECONDS", 0.1)
    with Writing(database) as writing, closing(sqlite3.connect(database.path, isolation_level=None)) as other:
        writing.commit()
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM audit").fetchone()
        with pytest.raises(StoreBusyError, match=r"another process .* grown to 3 MiB \(at most 3\)"):
            writing.commit_until_refused(100)
        assert 20 < writing.commits < 40
        with pytest.raises(StoreBusyError, match="another process"):
            writing.commit()
        other.execute("ROLLBACK")
        writing.commit()
        assert (writing.log.warning, writing.log.size() < MIB) == ("", True)
        assert len(journal.audited(writing.connection)) == writing.commits + 2


def test_the_limit_is_a_share_of_what_is_free(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what the log has taken already counts as free."""
    with Writing(database) as writing:
        writing.commit()
        usage = type("Usage", (), {"free": 9 * MIB})
        monkeypatch.setattr(wal.shutil, "disk_usage", lambda path: usage)
        assert writing.log.limit() == int(0.1 * (9 * MIB + writing.log.size()))
        usage.free = 1 << 50
        assert writing.log.limit() == 4 << 30


def test_a_read_that_takes_too_long_is_ended_and_the_next_one_is_not(database: Database) -> None:
    """With an error of its own; the connection can be used again."""
    with pytest.raises(SlowReadError, match=r"expected to read at most 0\.2 s"), database.reading() as connection:
        connection.execute(ENDLESS).fetchone()
    with database.reading() as connection:
        assert connection.execute("SELECT 1").fetchone()[0] == 1


def test_an_error_of_a_read_that_is_not_its_length_stays_what_it_is(database: Database) -> None:
    """A missing table is no matter of time."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"), database.reading() as connection:
        connection.execute("SELECT * FROM nowhere")
