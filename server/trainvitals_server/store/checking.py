"""Looking a database over: SQLite's own check of its pages, then every run, read as it would be for its page, and what
its tables say of one another. Each thing is looked at in a snapshot of its own: trainers may go on meanwhile, and the
log cannot be emptied behind a snapshot."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import sqlite_utils

from trainvitals_server.store import alerts, claims, events, pieces, pyramid, runs, schema, series
from trainvitals_server.store.database import DAMAGE, open_reading
from trainvitals_server.store.packing import unpack

PACE = 200_000  # instructions between two signs of life, while nobody knows how many there will be
MOST = 100  # problems of one kind that are told
Progress = Callable[[int, int], None]


class Found(NamedTuple):
    """How many runs there are, and what is wrong, a line each."""

    runs: int
    problems: list[str]


def check(path: Path, progress: Progress) -> Found:
    """Look at the database at `path`. Raises `ReadError` where nothing at all can be read, `SchemaError`."""
    with closing(open_reading(path)) as connection:
        schema.check_made(sqlite_utils.Database(connection))
        names = [row["id"] for row in runs.names(connection)]
        ticks = count(1)
        connection.set_progress_handler(lambda: progress(next(ticks), 0), PACE)
        problems = list(_pages(connection))
        connection.set_progress_handler(None, 0)
        for done, run in enumerate(names):
            progress(done, len(names))
            problems += _run(connection, run)
    return Found(len(names), problems)


def _pages(connection: sqlite3.Connection) -> Iterator[str]:
    try:
        for row in connection.execute(f"PRAGMA integrity_check({MOST})"):
            if row[0] != "ok":
                yield f"database: {row[0]}"
        for row in connection.execute("PRAGMA foreign_key_check").fetchmany(MOST):
            yield f"database: row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there"
    except sqlite3.Error as error:
        yield f"database: {error}"


def _run(connection: sqlite3.Connection, run: str) -> Iterator[str]:
    """What of a run cannot be read."""
    for what, read in (("its description", _describe), ("its events", _events), ("its alerts", alerts.find)):
        try:
            with _moment(connection):
                read(connection, run)
        except DAMAGE as error:
            yield f"run {run}: {what} cannot be read: {error}"
    try:
        with _moment(connection):
            columns = {row.id: row for row in series.list_all(connection, run)}
            parts = pieces.list_pieces(connection, run)
    except DAMAGE as error:
        yield f"run {run}: where its points are cannot be read: {error}"
        return
    yield from _claims(connection, run)
    yield from _buckets(connection, run)
    told: set[int] = set()
    for part in parts:
        with _moment(connection):
            unreadable = list(pieces.unreadable(connection, part))
        for one, reason in unreadable:
            if one not in told:
                told.add(one)
                name = " ".join(filter(None, columns[one][1:4])) if one in columns else f"series {one}"
                yield f"run {run}: {name} cannot be read in steps {part.low} to {part.high}: {reason}"


def _claims(connection: sqlite3.Connection, run: str) -> Iterator[str]:
    """What the tables say of one another and is not so."""
    for producer in runs.producer_rows(connection, run):
        try:
            with _moment(connection):  # in which the row must be read again, with what it is compared with
                now = [row for row in runs.producer_rows(connection, run) if row["id"] == producer["id"]]
                found = [problem for row in now for problem in claims.wrong(connection, run, row)]
        except DAMAGE as error:
            found = [f"how far producer {producer['producer']} has come cannot be read: {error}"]
        yield from (f"run {run}: {problem}" for problem in found)


def _buckets(connection: sqlite3.Connection, run: str) -> Iterator[str]:
    """The layouts of whose pyramid a level cannot be read, and so no wide range of their series."""
    for producer in runs.producer_rows(connection, run):
        for layout in series.outlines(connection, [producer["id"]]):
            with _moment(connection):
                found = list(_unreadable(connection, layout))
            yield from (f"run {run}: {problem}" for problem in found)


def _unreadable(connection: sqlite3.Connection, layout: series.Outline) -> Iterator[str]:
    """The levels of a layout that cannot be read."""
    try:
        for level, steps, read in pyramid.levels(connection, layout):
            try:
                for _ in read:
                    pass
            except DAMAGE as error:
                name = f"the buckets of {steps:,} steps (layout {layout.id}, level {level})"
                yield f"{name} cannot be read: {error}"
    except DAMAGE as error:
        yield f"the buckets of layout {layout.id} cannot be read: {error}"


@contextmanager
def _moment(connection: sqlite3.Connection) -> Iterator[None]:
    """One snapshot."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def _describe(connection: sqlite3.Connection, run: str) -> None:
    row = runs.get(connection, run)
    if row is not None:
        unpack(row["config"])
        unpack(row["versions"])


def _events(connection: sqlite3.Connection, run: str) -> None:
    after = 0
    while rows := events.find(connection, run, after=after):
        after = rows[-1].id
