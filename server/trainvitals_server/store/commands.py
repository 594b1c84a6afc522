"""Commands: rows of requests to trainers. One that addresses several ranks is the row for rank 0, which is what is told
of it, and a row for each other rank, its parts: each has an outcome of its own."""

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


def get_whole(connection: sqlite3.Connection, identity: str) -> dict[str, Any] | None:
    """A command with its `parts`, by its id or that of one of them."""
    command = get(connection, identity)
    if command is not None and command["whole"] is not None:
        command = get(connection, command["whole"])
    return None if command is None else command | {"parts": parts(connection, command["id"])}


def parts(connection: sqlite3.Connection, whole: str) -> list[dict[str, Any]]:
    """What a command asks of ranks other than 0, by rank."""
    return list(_rows(connection.execute("SELECT * FROM commands WHERE whole = ? ORDER BY rank", (whole,))))


def get_by_key(connection: sqlite3.Connection, run: str, key: str) -> dict[str, Any] | None:
    """A run's command by its idempotency key, with its parts."""
    row = connection.execute("SELECT id FROM commands WHERE run = ? AND key = ?", (run, key)).fetchone()
    return None if row is None else get_whole(connection, row[0])


def find(connection: sqlite3.Connection, run: str) -> list[dict[str, Any]]:
    """A run's commands with their parts, oldest first."""
    rows = list(_rows(connection.execute("SELECT * FROM commands WHERE run = ? ORDER BY requested, rowid", (run,))))
    found = {row["id"]: row | {"parts": []} for row in rows if row["whole"] is None}
    for row in sorted(rows, key=lambda row: row["rank"]):
        if row["whole"] in found:
            found[row["whole"]]["parts"].append(row)
    return list(found.values())


def waiting(connection: sqlite3.Connection, run: str, producer: str, now: float) -> list[dict[str, Any]]:
    """The commands that a producer may still be given, oldest first."""
    sql = "SELECT * FROM commands WHERE state = 'requested' AND run = ? AND producer = ? AND expires > ?"
    return list(_rows(connection.execute(f"{sql} ORDER BY requested", (run, producer, now))))


def overdue(connection: sqlite3.Connection, now: float) -> list[dict[str, Any]]:
    """The commands that nobody took in time."""
    sql = "SELECT * FROM commands WHERE state = 'requested' AND expires <= ?"
    return list(_rows(connection.execute(sql, (now,))))


def under_way(connection: sqlite3.Connection, run: str) -> list[dict[str, Any]]:
    """A run's commands and parts that a trainer took and has not finished, oldest first."""
    sql = "SELECT * FROM commands WHERE run = ? AND state IN ('delivered', 'applied') ORDER BY requested, rowid"
    return list(_rows(connection.execute(sql, (run,))))


def _packed(row: dict[str, Any]) -> dict[str, Any]:
    return {key: pack(value) if key in PACKED else value for key, value in row.items()}


def _rows(cursor: sqlite3.Cursor) -> Any:
    for row in cursor:
        plain = dict(row)
        yield plain | {key: unpack(plain[key]) for key in PACKED} | {"dry_run": bool(plain["dry_run"])}
