"""The write-ahead log's size, kept within bounds by the connection that writes.

Theory of operation. SQLite copies the log into the database whenever it has `CHECKPOINT_PAGES` pages, as far as no
reader still needs an older state, and begins it anew once nobody reads from it. Readers that overlap one another can
put that off for ever. So where the file has grown past `HIGH` bytes the writer waits, once, for the readers of this
server, each of which is ended after `READ_SECONDS` (database.py), and truncates the file. Who is there longer is
another process that holds a snapshot: then the log must grow, up to the lesser of `MOST` bytes and `SHARE` of what is
free on the disk, with a warning for whoever watches. Behind that nothing is written until that reader has gone, which
heals by itself.

No other connection of this server can checkpoint: the others are read-only.
"""

import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from trainvitals_server.errors import StoreBusyError

CHECKPOINT_PAGES = 4096  # 16 MiB
HIGH = 48 << 20  # bytes; with what is written while our own readers end, the log stays below 64 MiB
MOST, SHARE = 4 << 30, 0.1
OWN_SECONDS = 5.0  # until readers of our own let the log be copied, then those that began meanwhile let it be emptied
OTHERS_SECONDS = 0.1  # how long another attempt may hold up the writer
ATTEMPT_SECONDS = 0.01  # between two attempts while the writer waits
PAUSE_SECONDS = 1.0  # between two waits
PATIENT_SECONDS = 60.0  # between two waits that are long enough for our own readers


class Log:
    """The log of the database at `path`, for the writer's thread. `warning` says why it grows, "" where it does not;
    any thread may read it."""

    def __init__(self, connection: sqlite3.Connection, path: Path, now: Callable[[], float] = time.monotonic) -> None:
        self.warning = ""
        self._connection = connection
        self._file = path.with_name(f"{path.name}-wal")
        self._now = now
        self._again = 0.0  # when to wait for readers again ...
        self._patient = 0.0  # ... and when to be patient with them again
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")

    def size(self) -> int:
        """Bytes of the file."""
        try:
            return self._file.stat().st_size
        except FileNotFoundError:
            return 0

    def limit(self) -> int:
        """How large the file may become."""
        return min(MOST, int(SHARE * (shutil.disk_usage(self._file.parent).free + self.size())))

    def check(self) -> None:
        """Before a transaction. Raises `StoreBusyError` where the log may grow no more."""
        if self.size() <= HIGH or self.size() <= self.limit():
            return
        if not self._truncate(OTHERS_SECONDS):
            raise StoreBusyError(f"the database cannot be written: {self._describe()}")

    def tend(self) -> None:
        """After a commit: truncate the file where it has grown."""
        if self.size() <= HIGH:
            self.warning, self._again, self._patient = "", 0.0, 0.0
        elif self._now() >= self._again:
            self.warning = "" if self._truncate(self._patience()) else self._describe()
            self._again = self._now() + PAUSE_SECONDS

    def _patience(self) -> float:
        """How long to wait for readers now."""
        if self._now() < self._patient:
            return OTHERS_SECONDS
        self._patient = self._now() + PATIENT_SECONDS
        return OWN_SECONDS

    def _describe(self) -> str:
        size, limit = self.size() >> 20, self.limit() >> 20
        return f"another process has been reading it for long, so its log has grown to {size:,} MiB (at most {limit:,})"

    def _truncate(self, seconds: float) -> bool:
        """Copy everything into the database and empty the log, waiting that long for readers; whether it is done.

        No attempt waits by itself: SQLite's own waiting is for one reader's place, into which a newer reader, which is
        in nobody's way, may have moved meanwhile."""
        until = time.monotonic() + seconds
        (before,) = self._connection.execute("PRAGMA busy_timeout").fetchone()
        self._connection.execute("PRAGMA busy_timeout = 0")
        try:
            while not (done := self._attempt()) and time.monotonic() < until:
                time.sleep(ATTEMPT_SECONDS)
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {before}")
        return done

    def _attempt(self) -> bool:
        try:
            busy: int = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error:  # a full disk, for one; the next transaction tells
            return False
        return not busy
