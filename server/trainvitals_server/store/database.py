"""The database file: one writing connection, and a pool of reading ones.

Readers see one consistent snapshot each and can never block the writer (write-ahead log).
"""

import os
import queue
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec
import sqlite_utils
import zstandard

from trainvitals_server.errors import SchemaError, SlowReadError, StoreBusyError
from trainvitals_server.store import schema
from trainvitals_server.store.limits import MAX_BYTES

READ_SECONDS = 2.0  # how long a read may last: the log cannot be emptied behind it (wal.py)
READ_OPERATIONS = 1000  # of SQLite's machine, between two looks at the clock
BUSY_SECONDS = 2.0  # how long a transaction waits for another process's lock before the trainer is told to retry
CACHE_KIB = 16 << 10

ReadError = sqlite3.Error  # what a read may raise; the driver is known in this room only
MISSHAPEN = (zstandard.ZstdError, msgspec.MsgspecError, ValueError, TypeError, IndexError)  # a blob is not what it was
DAMAGE = (sqlite3.Error, *MISSHAPEN)  # what reading may raise, where what was read is unpacked


class Database:
    """A database file at `path`, made with mode 0600 if it is missing and migrated to the newest schema. Raises
    `StoreBusyError` where that cannot be done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._closed = False
        try:
            create(path)
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
                schema.check_version(sqlite_utils.Database(connection))  # before any setting is changed
            with closing(self.writer()) as connection:
                schema.migrate(sqlite_utils.Database(connection))
        except SchemaError as error:
            raise type(error)(f"the database {str(path)!r} cannot be opened: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise StoreBusyError(f"the database {str(path)!r} cannot be opened: {error}") from error

    def writer(self) -> sqlite3.Connection:
        """The connection that writes. There must be one, used by one thread at a time."""
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
        configure(connection)
        return connection

    @contextmanager
    def reading(self, seconds: float | None = None) -> Iterator[sqlite3.Connection]:
        """A read-only connection inside one snapshot; any thread may ask for one. Raises `SlowReadError` where what is
        done with it takes longer than `seconds`, which is `READ_SECONDS` where none are given."""
        connection = self._take()
        seconds = READ_SECONDS if seconds is None else seconds
        deadline = time.monotonic() + seconds
        whole = False
        try:
            connection.set_progress_handler(lambda: time.monotonic() > deadline, READ_OPERATIONS)
            connection.execute("BEGIN")
            yield connection
            whole = True
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline and "interrupted" in str(error):
                raise SlowReadError(f"expected to read at most {seconds:g} s, it took longer") from error
            raise
        finally:
            connection.set_progress_handler(None, 0)
            with suppress(sqlite3.Error):  # a failed BEGIN leaves nothing to roll back
                connection.execute("ROLLBACK")
            if whole:
                self._idle.put(connection)
            else:  # whoever holds the error holds half-read rows, and with them this snapshot
                connection.close()
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close the connections that nobody uses; those in use close when they come back."""
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()

    def _take(self) -> sqlite3.Connection:
        with suppress(queue.Empty):
            return self._idle.get_nowait()
        return open_reading(self.path)


def open_reading(path: Path) -> sqlite3.Connection:
    """A connection that reads the database at `path` and cannot change it. Raises `ReadError` where there is none."""
    address = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=BUSY_SECONDS, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)  # the file may be a stranger's
    connection.execute("PRAGMA query_only = ON")
    return connection


def make_current(path: Path) -> None:
    """See to it that a database that is there has today's schema; one that has is only read. Raises
    `StoreBusyError`."""
    with closing(open_reading(path)) as connection:
        db = sqlite_utils.Database(connection)
        schema.check_made(db)
        if set(schema.applied(db)) == set(schema.known()):
            return
    Database(path).close()


def create(path: Path) -> None:
    """Make an empty file that only its owner can read; SQLite gives its companions the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def configure(connection: sqlite3.Connection) -> None:
    """Settings of a writing connection. `auto_vacuum` works only before the first table is made."""
    connection.row_factory = sqlite3.Row
    for pragma in (
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = FAST",  # where it is on by default, a deleted frame would be written once more, as zeros
        f"cache_size = -{CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}")
