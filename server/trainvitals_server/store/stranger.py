# ruff: noqa: S608  # built from the names of our own schema; values are always bound
"""Reading a run's file that somebody else made, as what it is: hostile input.

It is opened read-only, its schema is not trusted, statements may only read, and only the tables and columns that this
program's own schema has are read, each of whose definitions must be, word for word, that of the version the file says
it has. Views, triggers and other tables in it are never looked at. Values have the declared types, and no more than
`MAX_BYTES` bytes. What the values say is judged elsewhere (life/inspection.py).
"""

import math
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlite_utils

from trainvitals_server.errors import FileRefusedError, NewerSchemaError
from trainvitals_server.store import schema
from trainvitals_server.store.limits import MAX_BYTES
from trainvitals_server.store.possessions import TABLES

STATEMENT_SECONDS = 60.0  # of one batch of rows; what takes longer is a trap
MAX_INTEGER = 1 << 53

READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
TYPES: dict[str, tuple[type, ...]] = {"TEXT": (str,), "INTEGER": (int,), "REAL": (float, int), "BLOB": (bytes,)}


class Stranger:
    """A file at `path`, called `name` in messages; `run` is the id of its one run. Raises `FileRefusedError`. To be
    closed."""

    def __init__(self, path: Path, name: str = "") -> None:
        self._name = name or repr(str(path))
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise self.refusal("expected a run's file, got a database in use; export the run from it")
        try:
            with path.open("rb") as file:
                if file.read(16) != b"SQLite format 3\0":
                    raise self.refusal("expected a run's file (SQLite), got another kind of file")
        except OSError as error:
            raise self.refusal(error.strerror or str(error)) from error
        try:
            self._connection = _open(path)
            self._columns = self._check_schema()
            self.run = self._only_run()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise self.refusal(f"it cannot be read: {error}") from error

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def count(self) -> int:
        """About how many rows there are."""
        try:
            return sum(int(self._ask(f"SELECT count(*) FROM {table}")[0][0]) for table in self._columns)
        except sqlite3.Error:
            return 0  # reading the rows will say where it is broken

    def rows(self, table: str) -> Iterator[dict[str, Any]]:
        """The rows of a table as this file's version has them, types checked. Raises `FileRefusedError`."""
        declared = self._columns.get(table, {})
        if not declared:
            return
        names = ", ".join(f'"{name}"' for name in declared)
        order = "" if "id" not in declared or declared["id"][0] != "INTEGER" else " ORDER BY id"
        try:
            self._give_time()
            for values in self._connection.execute(f"SELECT {names} FROM {table}{order}"):
                row = dict(zip(declared, values, strict=True))
                for name, (kind, required) in declared.items():
                    self._check_type(table, name, row[name], kind, required=required)
                yield row
                self._give_time()
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            raise self.refusal(f"its table {table} cannot be read: {error}") from error

    def _check_type(self, table: str, name: str, value: Any, kind: str, *, required: bool) -> None:
        if value is None and not required:
            return
        good = isinstance(value, TYPES[kind]) and not isinstance(value, bool)
        if good and kind == "INTEGER":
            good = -MAX_INTEGER <= value <= MAX_INTEGER
        if good and kind == "REAL":
            good = math.isfinite(value)
        if not good:
            raise self.refusal(f"expected {kind} in {table}.{name}, got {str(value)[:60]!r}")

    def _check_schema(self) -> dict[str, dict[str, tuple[str, bool]]]:
        """Table -> column -> its type and whether it must be there, of the version the file has."""
        found = self._tables()
        if "_sqlite_migrations" not in found:
            raise self.refusal("expected a run's file, got a database of something else")
        applied = [str(row[0]) for row in self._ask("SELECT name FROM _sqlite_migrations ORDER BY id LIMIT 1000")]
        strange = [name for name in applied if name not in schema.known()]
        if strange or not applied:
            has = f"schema {strange[-1][:60]!r}" if strange else "no schema at all"
            newer = f"it has {has}, of a newer trainvitals than this one, which knows up to {schema.known()[-1]!r}"
            raise NewerSchemaError(f"{self._name}: {newer}; nothing was changed")
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
            schema.build(sqlite_utils.Database(made), applied)
            expected = dict(made.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
            for name, sql in expected.items():
                if not name.startswith("sqlite_") and found.get(name) != sql:
                    raise self.refusal(f"expected table {name} as version {applied[-1]!r} has it, got another one")
            return {
                table.name: {
                    row[1]: (row[2], bool(row[3] or row[5]))
                    for row in made.execute(f"PRAGMA table_info({table.name})").fetchall()
                }
                for table in reversed(TABLES)
                if table.travels and table.name in expected
            }

    def _tables(self) -> dict[str, str]:
        rows = self._ask("SELECT name, sql FROM sqlite_master WHERE type = 'table' LIMIT 1000")
        return {row[0]: row[1] for row in rows}

    def _only_run(self) -> str:
        rows = self._ask("SELECT id FROM runs LIMIT 2")
        if len(rows) != 1 or not isinstance(rows[0][0], str):
            more = "none" if not rows else "more; `trainvitals serve --db FILE` opens a whole database"
            raise self.refusal(f"expected one run in it, got {more}")
        return str(rows[0][0])

    def _ask(self, sql: str) -> list[Any]:
        self._give_time()
        return self._connection.execute(sql).fetchall()

    def _give_time(self) -> None:
        deadline = time.monotonic() + STATEMENT_SECONDS
        self._connection.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)

    def refusal(self, reason: str) -> FileRefusedError:
        """The error that names this file and a reason."""
        return FileRefusedError(f"{self._name} was refused, and nothing was changed: {reason}")


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
    )
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "query_only = ON", "mmap_size = 0"):
        connection.execute(f"PRAGMA {pragma}")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.set_authorizer(_allow)
    return connection


def _allow(what: int, _: str | None, name: str | None, *rest: str | None) -> int:
    """Reading, and counting."""
    counting = what == sqlite3.SQLITE_FUNCTION and name == "count"
    return sqlite3.SQLITE_OK if what in READING or counting else sqlite3.SQLITE_DENY
