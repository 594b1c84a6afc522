"""Commands: rows of requests to trainers."""

import sqlite3
from typing import Any

import sqlite_utils

from trainvitals_server.store.packing import pack, unpack

PACKED = ("layers", "result")


def add(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    """Store a new command."""
    sqlite_utils.Database(connection).table("commands").insert(_packed(row))


def update(connection: sqlite3.Connection, identity: str, **columns: Any) -> None:
    """Set columns of a command."""
    sqlite_utils.Database(connection).table("commands").update(identity, _packed(columns))


def get(connection: sqlite3.Connection, identity: str) -> dict[str, Any] | None:
    """A command by id."""
    return next(_rows(connection.execute("SELECT * FROM commands WHERE id = ?", (identity,))), None)


def get_by_key(connection: sqlite3.Connection, run: str, key: str) -> dict[str, Any] | None:
    """A run's command by its idempotency key."""
    return next(_rows(connection.execute("SELECT * FROM commands WHERE run = ? AND key = ?", (run, key))), None)


def find(connection: sqlite3.Connection, run: str) -> list[dict[str, Any]]:
    """A run's commands, oldest first."""
    return list(_rows(connection.execute("SELECT * FROM commands WHERE run = ? ORDER BY requested, rowid", (run,))))


def waiting(connection: sqlite3.Connection, run: str, producer: str, now: float) -> list[dict[str, Any]]:
    """The commands that a producer may still be given, oldest first."""
    sql = "SELECT * FROM commands WHERE state = 'requested' AND run = ? AND producer = ? AND expires > ?"
    return list(_rows(connection.execute(f"{sql} ORDER BY requested", (run, producer, now))))


def overdue(connection: sqlite3.Connection, now: float) -> list[dict[str, Any]]:
    """The commands that nobody took in time."""
    sql = "SELECT * FROM commands WHERE state = 'requested' AND expires <= ?"
    return list(_rows(connection.execute(sql, (now,))))


def under_way(connection: sqlite3.Connection, run: str) -> list[dict[str, Any]]:
    """A run's commands that a trainer took and has not finished, oldest first."""
    sql = "SELECT * FROM commands WHERE run = ? AND state IN ('delivered', 'applied') ORDER BY requested, rowid"
    return list(_rows(connection.execute(sql, (run,))))


def _packed(row: dict[str, Any]) -> dict[str, Any]:
    return {key: pack(value) if key in PACKED else value for key, value in row.items()}


def _rows(cursor: sqlite3.Cursor) -> Any:
    for row in cursor:
        plain = dict(row)
        yield plain | {key: unpack(plain[key]) for key in PACKED} | {"dry_run": bool(plain["dry_run"])}
