# ruff: noqa: S608  # built from the names of this room only; values are always bound
"""Taking a run out: hidden in one transaction, then removed in small ones, and remembered as deleted.

A run that is hidden is not there for anybody. Whoever opens the database next goes on where a killed program stopped:
with one that was being deleted, as with one of which only a part was imported.
"""

import sqlite3
from typing import Any

import sqlite_utils

from trainvitals_server.store.possessions import TABLES


def hide(connection: sqlite3.Connection, run: str, now: float, reason: str) -> bool:
    """Make a run invisible and remember it as deleted; False where there is none. What asks something of trainers or
    people goes at once: its commands, alerts and messages."""
    row = connection.execute("SELECT name FROM runs WHERE id = ? AND hidden = ''", (run,)).fetchone()
    if row is None:
        return False
    connection.execute("UPDATE runs SET hidden = 'deleting' WHERE id = ?", (run,))
    for table in ("alerts", "commands", "notifications"):
        connection.execute(f"DELETE FROM {table} WHERE run = ?", (run,))
    kept = {"run": run, "name": row[0], "time": now, "reason": reason}
    sqlite_utils.Database(connection).table("deleted_runs").insert(kept, replace=True)
    return True


def hidden(connection: sqlite3.Connection, state: str | None = None) -> list[str]:
    """The runs that are being deleted or imported."""
    rows = connection.execute("SELECT id FROM runs WHERE hidden <> '' AND (?1 IS NULL OR hidden = ?1)", (state,))
    return [row[0] for row in rows]


def sweep(connection: sqlite3.Connection, run: str) -> bool:
    """Remove a few rows of a hidden run, a MiB or so; whether there are more."""
    for table in TABLES:
        if table.batch is None:
            sql = f"DELETE FROM {table.name} WHERE {table.owned}"
        else:
            some = f"SELECT rowid FROM {table.name} WHERE {table.owned} LIMIT {table.batch}"
            sql = f"DELETE FROM {table.name} WHERE rowid IN ({some})"
        if connection.execute(sql, (run,)).rowcount > 0:
            return table.name != "runs"
    return False


def find_deleted(connection: sqlite3.Connection, run: str) -> dict[str, Any] | None:
    """When and why a run was deleted; None where it was not."""
    row = connection.execute("SELECT run, name, time, reason FROM deleted_runs WHERE run = ?", (run,)).fetchone()
    return dict(row) if row else None


def list_deleted(connection: sqlite3.Connection, limit: int) -> list[dict[str, Any]]:
    """The runs deleted last, the latest first."""
    rows = connection.execute("SELECT * FROM deleted_runs ORDER BY time DESC, rowid DESC LIMIT ?", (limit,))
    return [dict(row) for row in rows]


def forget_deleted(connection: sqlite3.Connection, run: str) -> None:
    """A run of this id may come again."""
    connection.execute("DELETE FROM deleted_runs WHERE run = ?", (run,))
