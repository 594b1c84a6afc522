# ruff: noqa: S608  # built from the names of our own schema; values are always bound
"""Entering a run that comes from elsewhere, row by row: with new row ids, in the tables as they are today.

The run is hidden until all of it is there. Rows refer to one another by the foreign keys of the schema; the one
reference that is no foreign key, a layout's columns, is translated with the rest.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from trainvitals_server.errors import FileRefusedError, RunExistsError
from trainvitals_server.store import deletion

Row = dict[str, Any]
UNDECLARED = -1


class Entry:
    """One run on its way in. `take` is given rows parents first; `finish` makes the run visible."""

    def __init__(self, run: str) -> None:
        self.run = run
        self._ids: defaultdict[str, dict[int, int]] = defaultdict(dict)  # table -> row id there -> row id here
        self._parents: dict[str, dict[str, str]] = {}  # table -> column -> table it refers to
        self._names: dict[str, set[str]] = {}

    def take(self, connection: sqlite3.Connection, rows: Iterable[tuple[str, Row]]) -> None:
        """Insert rows of tables. Raises `FileRefusedError` where one cannot be: its parent is missing, it is there
        twice, or the run is."""
        for table, row in rows:
            if table == "runs":
                self._begin(connection, row)
            else:
                self._enter(connection, table, row)

    def _begin(self, connection: sqlite3.Connection, row: Row) -> None:
        found = connection.execute("SELECT hidden FROM runs WHERE id = ?", (self.run,)).fetchone()
        if found is not None:
            state = "there already" if not found[0] else "still being removed; import it again once it is gone"
            raise RunExistsError(f"run {self.run!r} is {state}; nothing was changed")
        self._enter(connection, "runs", row | {"hidden": "importing", "pinned": 0})

    def _enter(self, connection: sqlite3.Connection, table: str, row: Row) -> None:
        ours = {name: value for name, value in row.items() if name in self._columns(connection, table)}
        there = ours.pop("id", None) if isinstance(row.get("id"), int) else None
        for column, parent in self._references(connection, table).items():
            if isinstance(ours.get(column), int):
                ours[column] = self._here(parent, ours[column], table)
        if table == "layouts":
            ours["columns"] = self._series(ours["columns"])
        names, marks = ", ".join(f'"{name}"' for name in ours), ", ".join("?" * len(ours))
        try:
            cursor = connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(ours.values()))
        except sqlite3.IntegrityError as error:
            raise FileRefusedError(f"a row of its table {table} cannot be entered: {error}") from error
        if there is not None and cursor.lastrowid is not None:
            self._ids[table][there] = cursor.lastrowid

    def finish(self, connection: sqlite3.Connection, now: float) -> None:
        """Show it. How it ended is kept beside its new state; frames of an older version get their buckets later."""
        connection.execute(
            "UPDATE runs SET hidden = '', outcome = CASE state WHEN 'imported' THEN outcome ELSE state END,"
            " state = 'imported', imported = ? WHERE id = ?",
            (now, self.run),
        )
        connection.execute(
            "INSERT INTO shelves (layout, bucketed, behind) SELECT layout, min(first_step), 1 FROM frames"
            " WHERE layout IN (SELECT layouts.id FROM layouts JOIN producers ON producers.id = layouts.producer"
            " WHERE run = ?)"
            " AND layout NOT IN (SELECT layout FROM shelves) GROUP BY layout",
            (self.run,),
        )
        deletion.forget_deleted(connection, self.run)

    def _here(self, parent: str, there: int, table: str) -> int:
        try:
            return self._ids[parent][there]
        except KeyError:
            raise FileRefusedError(f"its table {table} refers to row {there} of {parent}, which is not there") from None

    def _series(self, columns: bytes) -> bytes:
        known = self._ids["series"]
        ids = np.frombuffer(columns, "<i8").tolist()
        return np.array([UNDECLARED if one == UNDECLARED else known[one] for one in ids], "<i8").tobytes()

    def _references(self, connection: sqlite3.Connection, table: str) -> dict[str, str]:
        if table not in self._parents:
            rows = connection.execute(f"PRAGMA foreign_key_list({table})").fetchall()
            self._parents[table] = {row[3]: row[2] for row in rows if row[2] != "runs"}
        return self._parents[table]

    def _columns(self, connection: sqlite3.Connection, table: str) -> set[str]:
        if table not in self._names:
            self._names[table] = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        return self._names[table]
