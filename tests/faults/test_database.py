"""Other programs at the server's database."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ward import Ward

Enter = Callable[..., None]
LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""
READ = LOCK.replace('"BEGIN IMMEDIATE"', '"BEGIN"').replace(
    'print("', 'connection.execute("SELECT * FROM runs").fetchall(); print("'
)


@contextmanager
def another_process(database: Path, what: str) -> Iterator[None]:
    """A program that has the database open in this way, until the end of the block."""
    command = [sys.executable, "-c", what, str(database)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        yield


@pytest.mark.parametrize("seconds", [3.0, pytest.param(30.0, marks=pytest.mark.chaos)])
def test_a_database_that_another_process_locks(running: Ward, enter: Enter, seconds: float) -> None:
    """The server asks for patience; nothing is dropped."""
    name = f"database locked by another process for {seconds:g} s"
    with (
        running.fault(name, "`nack retry`, nothing dropped") as row,
        another_process(running.database, LOCK),
    ):
        running.training.go_on(0.5)
        before = running.committed()
        running.training.go_on(seconds - 0.5)
        assert running.committed() == before
    enter(row)


def test_a_reader_that_never_ends(running: Ward, enter: Enter) -> None:
    """The log grows for as long as it reads, and no record waits; afterwards the log is folded in again."""
    with (
        running.fault("a foreign reader open", "WAL bounded, then folded in again") as row,
        another_process(running.database, READ),
    ):
        running.training.go_on(2.0)
        grown = log_size(running.database)
    row.note = f"WAL {grown / 2**20:.1f} MiB meanwhile"
    enter(row)
    assert grown < 64 << 20
    with closing(sqlite3.connect(running.database)) as connection:
        assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)


def log_size(database: Path) -> int:
    """Bytes of the write-ahead log."""
    return database.with_name(database.name + "-wal").stat().st_size
