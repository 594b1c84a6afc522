"""Faults that are planted inside a process of ours, by name: `plant("ping=0.5")`. Each is a function of its value.

They change what the operating system would do (a disk, a clock), how long something waits, or end the process at a
chosen place; never what the program decides.
"""

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TALLIED = 10.0  # seconds between two tallies
PLANTS: dict[str, Callable[[str], None]] = {}


def plant(text: str) -> None:
    """Plant a fault given as NAME=VALUE. Raises KeyError."""
    name, _, value = text.partition("=")
    PLANTS[name](value)


def planted(function: Callable[[str], None]) -> Callable[[str], None]:
    """Enter a fault under its function's name."""
    PLANTS[function.__name__] = function
    return function


def die() -> None:
    """End here and now, as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


@planted
def ping(seconds: str) -> None:
    """The trainer pings this often, and waits this long for the answer."""
    from trainvitals.delivery import link

    link.PING = float(seconds)


@planted
def segment(size: str) -> None:
    """Segments of the spool have about `size` bytes."""
    from trainvitals.delivery import spool

    spool.SEGMENT_BYTES = int(size)


@planted
def clock(file: str) -> None:
    """The wall clock is off by the seconds that stand in `file`, while it exists."""
    real, path = time.time, Path(file)

    def skewed() -> float:
        try:
            return real() + float(path.read_text() or 0)
        except FileNotFoundError:
            return real()

    time.time = skewed


@planted
def disk(control: str) -> None:
    """Whatever opens, writes or syncs a segment of a spool fails with the error named in `control`, while it exists."""
    path = Path(control)

    def failing(call: Callable[..., Any], about: Callable[..., str]) -> Callable[..., Any]:
        def one(*given: Any, **named: Any) -> Any:
            if path.exists() and about(*given).endswith(".seg"):
                number = getattr(errno, path.read_text().strip())
                raise OSError(number, os.strerror(number))
            return call(*given, **named)

        return one

    os.write = failing(os.write, lambda descriptor, data: os.readlink(f"/proc/self/fd/{descriptor}"))
    os.fdatasync = failing(os.fdatasync, lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    os.open = failing(os.open, lambda name, *rest: os.fspath(name))


@planted
def applied(after: str) -> None:
    """The trainer dies between writing a command into its journal and applying it, `after` seconds later."""
    from trainvitals.control.desk import Desk

    def last(*given: Any) -> Any:
        time.sleep(float(after))
        die()

    Desk._carry_out = last  # type: ignore[method-assign]


@planted
def acked(after: str) -> None:
    """The server dies after the commit, before the answer to the batch that brings the watermark past `after`."""
    from trainvitals_server.ingest.session import Outcome, Session

    answer = Session.answer

    def last(self: Session, *given: Any) -> Any:
        if any(isinstance(one, Outcome) and one.committed >= int(after) for one in given):
            die()
        return answer(self, *given)

    Session.answer = last  # type: ignore[method-assign]


@planted
def pages(control: str) -> None:
    """The database cannot grow while `control` exists."""
    from trainvitals_server.store.database import Database

    made, path = Database.writer, Path(control)

    def writer(self: Database) -> Any:
        connection = made(self)
        threading.Thread(target=follow, args=(connection,), daemon=True).start()
        return connection

    def follow(connection: Any) -> None:
        full = False
        while True:
            if path.exists() != full:
                full = not full
                connection.execute(f"PRAGMA max_page_count = {1 if full else 1 << 30}")
            time.sleep(0.02)

    Database.writer = writer  # type: ignore[method-assign]


@planted
def cache(size: str) -> None:
    """The writer keeps at most so many KiB of the database's pages in memory."""
    from trainvitals_server.store import database

    database.CACHE_KIB = int(size)


@planted
def tally(file: str) -> None:
    """The process writes into `file`, now and then, how many of Python's memory blocks it has in use: every object has
    one at least."""
    import gc

    path = Path(file)

    def follow() -> None:
        time.sleep(TALLIED)
        gc.freeze()  # what was imported is gone through no more: with torch that takes a fifth of a second each time
        while True:
            gc.collect()  # what only waits for the collector is not in use
            part = path.with_suffix(".part")
            part.write_text(str(sys.getallocatedblocks()))
            part.replace(path)
            time.sleep(TALLIED)

    threading.Thread(target=follow, daemon=True).start()


@planted
def migrating(statement: str) -> None:
    """The process dies before the given statement of the migrations is executed, counted over all of them."""
    import sqlite_utils

    execute, left = sqlite_utils.Database.execute, [int(statement)]

    def counted(self: Any, sql: str, *rest: Any) -> Any:
        if sql.lstrip().startswith(("CREATE", "ALTER", "DROP", "UPDATE")):
            left[0] -= 1
            if left[0] < 0:
                die()
        return execute(self, sql, *rest)

    sqlite_utils.Database.execute = counted


@planted
def ring(size: str) -> None:
    """The trainer's queue has `size` bytes."""
    from trainvitals.delivery.outbox import Outbox

    Outbox.__init__.__defaults__ = (int(size),)


@planted
def stuck(seconds: str) -> None:
    """A browser that reads nothing is closed after this long."""
    from trainvitals_server.live import socket

    socket.STUCK_SECONDS = float(seconds)


@planted
def impatient(seconds: str) -> None:
    """A notification's try, and every pause between two, take at most this long."""
    from trainvitals_server.notifications import sender, targets

    targets.attempt.__defaults__ = (float(seconds),)
    sender.LONGEST_PAUSE = sender.TICK_SECONDS = float(seconds)


@planted
def log(bounds: str) -> None:
    """The database's log is emptied from `HIGH` bytes on and grows to at most `MOST`, given as HIGH:MOST."""
    from trainvitals_server.store import wal

    wal.HIGH, wal.MOST = map(int, bounds.split(":"))
