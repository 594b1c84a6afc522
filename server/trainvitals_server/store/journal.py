"""What is only ever added to: the audit and the quarantine."""

import sqlite3
from typing import Any

import sqlite_utils

MAX_KEPT_BYTES = 64 << 10  # of one quarantined record


def audit(connection: sqlite3.Connection, now: float, **columns: Any) -> None:
    """Note who (`role`, `origin`) asked for what (`action`, `run`, `command`) and what came of it (`outcome`)."""
    sqlite_utils.Database(connection).table("audit").insert({"time": now, **columns})


def audited(connection: sqlite3.Connection, run: str | None = None) -> list[dict[str, Any]]:
    """The audit of a run, or of everything, oldest first."""
    rows = connection.execute("SELECT * FROM audit WHERE ?1 IS NULL OR run = ?1 ORDER BY id", (run,))
    return [dict(row) for row in rows]


def quarantine(
    connection: sqlite3.Connection, producer: int, *, seq: int, now: float, reason: str, record: bytes
) -> None:
    """Set aside a record that will never be accepted."""
    connection.execute(
        "INSERT INTO quarantine (producer, seq, time, reason, record) VALUES (?, ?, ?, ?, ?)",
        (producer, seq, now, reason, record[:MAX_KEPT_BYTES]),
    )


def set_aside(connection: sqlite3.Connection, run: str) -> list[tuple[str, int]]:
    """Why records of a run were set aside, and how often each."""
    rows = connection.execute(
        "SELECT quarantine.reason, count(*) FROM quarantine JOIN producers ON producers.id = quarantine.producer"
        " WHERE producers.run = ? GROUP BY quarantine.reason",
        (run,),
    )
    return [(row[0], row[1]) for row in rows]


def quarantined(connection: sqlite3.Connection) -> int:
    """How many records were set aside."""
    total: int = connection.execute("SELECT count(*) FROM quarantine").fetchone()[0]
    return total
