"""A copy of a database that is in use: one snapshot, by SQLite's online backup, in steps.

The snapshot is held by a reading transaction, so no commit meanwhile makes the copy begin again, and the writer is
never held up. Its log grows by what is written during the copy and shrinks afterwards.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import sqlite_utils

from trainvitals_server.store import schema
from trainvitals_server.store.database import open_reading
from trainvitals_server.store.newfile import write_database

STEP_PAGES = 1024  # 4 MiB

Progress = Callable[[int, int], None]  # done, of how many


def back_up(source: Path, target: Path, progress: Progress) -> int:
    """Copy the database `source` into the new file `target`; returns its size in bytes. Raises FileExistsError,
    OSError, and `ReadError` where the source cannot be read."""

    def fill(connection: sqlite3.Connection) -> None:
        with closing(open_reading(source)) as reading:
            schema.check_made(sqlite_utils.Database(reading))
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM runs").fetchone()  # the snapshot begins with the first read
            reading.backup(
                connection, pages=STEP_PAGES, progress=lambda _, left, total: progress(total - left, total), sleep=0
            )
            reading.execute("ROLLBACK")
        connection.execute("PRAGMA journal_mode = DELETE")  # one file, whatever the source's mode

    write_database(target, fill)
    return target.stat().st_size
