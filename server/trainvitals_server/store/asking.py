# ruff: noqa: S608  # built from the names of this room only; values are always bound
"""Any question about one run, in SQL, with its points as rows.

Theory of operation. The question never reaches the real database: it runs in a small one in memory, whose table
`points` is a view over three lists (pieces of the run, its series, and the numbers from 0 on) and functions that look
values up. So nothing is copied: a condition on layer, kind, stat or rank picks rows of the lists before any value is
read, and a piece is read when its first value is asked for, by column. The view is a UNION ALL, which keeps SQLite from
merging it into a join: a query that joins points with points gets each side once, with its conditions, as a table of
its own with an index made for the purpose.

SQLite keeps a NaN as NULL, so `class` says what a value is: finite, nan, inf, -inf. Infinities are ordinary values.

A question may come from anywhere. It may only read: an authorizer refuses everything but SELECT, and all functions that
reach beyond the data; nothing can be attached; the lengths of values and statements are limited; and it ends at its
time limit. What it sorts or joins goes to temporary files, not to memory.
"""

import math
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from trainvitals_server.errors import ServerError
from trainvitals_server.jsontext import dumps
from trainvitals_server.store import alerts, events, pieces, series
from trainvitals_server.store.database import DAMAGE
from trainvitals_server.store.pieces import Piece
from trainvitals_server.store.stretch import Stretch

CACHED_PIECES = 64  # of one column each, up to 8192 values
HEAP_BYTES = 1 << 30  # of all that SQLite holds in this process
TICKS = 500  # instructions between two looks at the clock; one may take milliseconds, on values of megabytes

LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 4 << 20,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_COLUMN: 200,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 200,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_FUNCTION_ARG: 30,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER: 0,
    sqlite3.SQLITE_LIMIT_WORKER_THREADS: 0,
}
READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE)
FORBIDDEN = ("load_extension", "writefile", "readfile", "edit", "fts3_tokenizer", "sqlite_log")

TABLES = (
    "CREATE TABLE pieces (id INTEGER PRIMARY KEY, layout INTEGER NOT NULL, rank INTEGER NOT NULL)",
    "CREATE TABLE columns (layout INTEGER NOT NULL, series INTEGER NOT NULL, PRIMARY KEY (layout, series))"
    " WITHOUT ROWID",
    "CREATE TABLE numbers (i INTEGER PRIMARY KEY)",
    "CREATE TABLE series (id INTEGER PRIMARY KEY, layer TEXT, kind TEXT, stat TEXT, place INTEGER)",
    "CREATE TABLE events (id INTEGER PRIMARY KEY, step INTEGER, time REAL, rank INTEGER, producer TEXT, type TEXT,"
    " layer TEXT, data TEXT)",
    "CREATE TABLE alerts (id INTEGER PRIMARY KEY, rank INTEGER, rule TEXT, layer TEXT, severity TEXT, status TEXT,"
    " first_step INTEGER, last_step INTEGER, count INTEGER, text TEXT)",
    """
    CREATE VIEW points AS
    SELECT step_at(p.id, s.id, n.i) AS step, time_at(p.id, s.id, n.i) AS time, p.rank AS rank, s.layer AS layer,
           s.kind AS kind, s.stat AS stat, value_at(p.id, s.id, n.i) AS value, class_at(p.id, s.id, n.i) AS class
    FROM pieces p CROSS JOIN columns c CROSS JOIN series s CROSS JOIN numbers n
    WHERE c.layout = p.layout AND s.id = c.series AND n.i < height(p.id, s.id)
    UNION ALL SELECT 0, 0.0, 0, '', '', '', 0.0, '' WHERE 0""",
)


class QuestionError(ServerError):
    """A question that cannot be answered: not SQL, not only reading, too long; the message is one line."""


class Column:
    """The values of one series in one piece that are there."""

    def __init__(self, stretch: Stretch) -> None:
        there = slice(None) if stretch.present is None else stretch.present[:, 0]
        self.steps: list[int] = stretch.steps[there].tolist()
        self.times: list[float] = stretch.times[there].tolist()
        values = stretch.values[there, 0].astype(np.float64)
        self.values: list[float] = values.tolist()
        self.sound = bool(np.isfinite(values).all())


class Desk:
    """A place to ask questions about one run of a database, or its points from step `low` to `high`. The reading
    connection must stay within one transaction. Raises `QuestionError` where the run's lists cannot be read."""

    def __init__(
        self, connection: sqlite3.Connection, run: str, low: int | None = None, high: int | None = None
    ) -> None:
        self._source = connection
        self._kept: OrderedDict[tuple[int, int], Column] = OrderedDict()
        self._piece = self._one = -1  # whose column was asked for last
        self._column = Column(Stretch(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 1), np.float32), None))
        self._trouble = ""  # what could not be read, since SQLite says no more than that a function raised
        self._answers = sqlite3.connect(":memory:", isolation_level=None)
        try:
            self._list(run, 0 if low is None else low, pieces.MOST if high is None else high)
            self._fill(run)
        except DAMAGE as error:
            self._answers.close()
            raise QuestionError(f"run {run} cannot be read: {error}; `trainvitals check` says more") from error
        self._harden()

    def close(self) -> None:
        """Let go of everything."""
        self._answers.close()

    def ask(self, sql: str, seconds: float) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
        """The names of the columns, and the rows, read while they are taken. Raises `QuestionError`, then or later."""
        deadline = time.monotonic() + seconds
        self._answers.set_progress_handler(lambda: time.monotonic() > deadline, TICKS)
        try:
            cursor = self._answers.execute(sql)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise self._explain(error, deadline, seconds) from error
        if cursor.description is None:
            raise QuestionError("expected a SELECT, got nothing that has columns")
        names = [column[0] for column in cursor.description]
        return names, self._rows(cursor, deadline, seconds)

    def _rows(self, cursor: sqlite3.Cursor, deadline: float, seconds: float) -> Iterator[tuple[Any, ...]]:
        try:
            yield from cursor
        except (sqlite3.Error, ValueError) as error:
            raise self._explain(error, deadline, seconds) from error

    def _explain(self, error: Exception, deadline: float, seconds: float) -> QuestionError:
        if self._trouble:
            return QuestionError(self._trouble)
        if "interrupted" in str(error) and time.monotonic() > deadline:
            return QuestionError(f"expected an answer within {seconds:g} s, got none; ask for less, or for longer")
        if "not authorized" in str(error) or "prohibited" in str(error):
            return QuestionError(f"expected a query that only reads points, series, events and alerts ({error})")
        return QuestionError(f"the query cannot be answered: {error}")

    def _list(self, run: str, low: int, high: int) -> None:
        """The pieces, in which place of a piece a series is, and what series are called."""
        self._pieces = pieces.list_pieces(self._source, run, low, high)
        self._places = [
            {one: column for column, one in enumerate(piece.columns.tolist()) if one != series.UNDECLARED}
            for piece in self._pieces
        ]
        self._names = {row.id: (row.layer, row.kind, row.stat) for row in series.list_all(self._source, run)}

    def _fill(self, run: str) -> None:
        db = self._answers
        for name, count in (("height", 2), ("step_at", 3), ("time_at", 3), ("value_at", 3), ("class_at", 3)):
            db.create_function(name, count, getattr(self, f"_{name}"), deterministic=True)
        for statement in TABLES:
            db.execute(statement)
        db.execute("BEGIN")
        rows = ((place, piece.layout, piece.rank) for place, piece in enumerate(self._pieces))
        db.executemany("INSERT INTO pieces VALUES (?, ?, ?)", rows)
        layouts = {piece.layout: piece for piece in self._pieces}
        pairs = ((one, held) for one, piece in layouts.items() for held in set(piece.columns.tolist()))
        db.executemany("INSERT INTO columns VALUES (?, ?)", (pair for pair in pairs if pair[1] != series.UNDECLARED))
        most = max((piece.n for piece in self._pieces), default=0)
        db.executemany("INSERT INTO numbers VALUES (?)", ((i,) for i in range(most)))
        db.executemany("INSERT INTO series VALUES (?, ?, ?, ?, ?)", series.list_all(self._source, run))
        self._fill_stories(run)
        db.execute("COMMIT")
        db.execute("ANALYZE")

    def _fill_stories(self, run: str) -> None:
        """Events and alerts, in which MessagePack has become JSON."""
        after = 0
        while page := events.find(self._source, run, after=after):
            after = page[-1].id
            self._answers.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)", map(_event, page))
        names = ("id", "rank", "rule", "layer", "severity", "status", "first_step", "last_step", "count", "text")
        found = [msgspec.structs.asdict(alert) for alert in alerts.find(self._source, run)]
        self._answers.executemany(
            f"INSERT INTO alerts VALUES ({', '.join('?' * len(names))})",
            [tuple(alert[name] for name in names) for alert in found],
        )

    def _harden(self) -> None:
        heap = f"hard_heap_limit = {HEAP_BYTES}"
        for pragma in ("temp_store = FILE", "cache_size = -65536", heap, "query_only = ON"):
            self._answers.execute(f"PRAGMA {pragma}").fetchall()
        for limit, value in LIMITS.items():
            self._answers.setlimit(limit, value)
        self._answers.set_authorizer(_authorize)

    def _find(self, piece: int, one: int) -> Column:
        """The column, read if need be; the last ones are kept."""
        found = self._kept.get((piece, one))
        if found is None:
            found = self._kept[piece, one] = Column(self._read(self._pieces[piece], self._places[piece][one], one))
            if len(self._kept) > CACHED_PIECES:
                self._kept.popitem(last=False)
        self._piece, self._one, self._column = piece, one, found
        return found

    def _read(self, piece: Piece, column: int, one: int) -> Stretch:
        try:
            return pieces.read(self._source, piece, np.array([column]))
        except DAMAGE as error:
            name = " ".join(filter(None, self._names[one]))
            self._trouble = f"{name} cannot be read in steps {piece.low} to {piece.high}: {error}"
            raise

    # Called once a row each, so they are short: mostly the column is the one that was asked for last.

    def _height(self, piece: int, one: int) -> int:
        return len(self._find(piece, one).steps)

    def _step_at(self, piece: int, one: int, place: int) -> int:
        if piece != self._piece or one != self._one:
            self._find(piece, one)
        return self._column.steps[place]

    def _time_at(self, piece: int, one: int, place: int) -> float:
        if piece != self._piece or one != self._one:
            self._find(piece, one)
        return self._column.times[place]

    def _value_at(self, piece: int, one: int, place: int) -> float:
        if piece != self._piece or one != self._one:
            self._find(piece, one)
        return self._column.values[place]

    def _class_at(self, piece: int, one: int, place: int) -> str:
        if piece != self._piece or one != self._one:
            self._find(piece, one)
        return "finite" if self._column.sound else _class(self._column.values[place])


def _class(value: float) -> str:
    return "finite" if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _event(one: events.Row) -> tuple[object, ...]:
    data = dumps(events.fields(one.record)).decode()
    return one.id, one.step, one.time, one.rank, one.producer, one.type, one.layer, data


def _authorize(what: int, _: str | None, name: str | None, *rest: str | None) -> int:
    if what in READING or (what == sqlite3.SQLITE_FUNCTION and name not in FORBIDDEN):
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def spelled(row: Sequence[Any]) -> list[Any]:
    """A row as JSON and CSV have it: infinities by name, bytes in hexadecimal."""
    words = {np.inf: "Infinity", -np.inf: "-Infinity"}
    return [
        words.get(value, value) if isinstance(value, float) else value.hex() if isinstance(value, bytes) else value
        for value in row
    ]
