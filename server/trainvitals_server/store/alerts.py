"""Alerts: one row per run, rank, rule and layer."""

import sqlite3

import msgspec

from trainvitals_server.alerts import Alert
from trainvitals_server.store.packing import pack

_alert = msgspec.msgpack.Decoder(Alert)


def get(connection: sqlite3.Connection, run: str, rule: str, layer: str, rank: int = 0) -> Alert | None:
    """The alert of a rank, a rule and a layer ("" for the whole run)."""
    row = connection.execute(
        "SELECT id, body FROM alerts WHERE run = ? AND rank = ? AND rule = ? AND layer = ?", (run, rank, rule, layer)
    ).fetchone()
    return _read(row) if row else None


def get_by_id(connection: sqlite3.Connection, identity: int) -> Alert | None:
    """The alert of an id."""
    row = connection.execute("SELECT id, body FROM alerts WHERE id = ?", (identity,)).fetchone()
    return _read(row) if row else None


def save(connection: sqlite3.Connection, alert: Alert) -> Alert:
    """Store an alert over what was there; returns it with its id."""
    key = (alert.run, alert.rank, alert.rule, alert.layer or "")
    connection.execute(
        "INSERT INTO alerts (run, rank, rule, layer, status, body) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (run, rank, rule, layer) DO UPDATE SET status = excluded.status, body = excluded.body",
        (*key, alert.status, pack(alert)),
    )
    identity = connection.execute(
        "SELECT id FROM alerts WHERE run = ? AND rank = ? AND rule = ? AND layer = ?", key
    ).fetchone()[0]
    return msgspec.structs.replace(alert, id=identity)


def find_open(connection: sqlite3.Connection, run: str, rank: int) -> list[Alert]:
    """A rank's alerts that are not over, by id."""
    rows = connection.execute(
        "SELECT id, body FROM alerts WHERE run = ? AND rank = ? AND status <> 'resolved' ORDER BY id", (run, rank)
    )
    return [_read(row) for row in rows]


def find(connection: sqlite3.Connection, run: str | None = None, status: str | None = None) -> list[Alert]:
    """Alerts of a run (None: of all), with a status (None: any), by id."""
    rows = connection.execute(
        "SELECT id, body FROM alerts WHERE (?1 IS NULL OR run = ?1) AND (?2 IS NULL OR status = ?2)"
        " AND run NOT IN (SELECT id FROM runs WHERE hidden <> '') ORDER BY id",
        (run, status),
    )
    return [_read(row) for row in rows]


def count_open(connection: sqlite3.Connection, run: str, rank: int, rule: str) -> int:
    """How many of a rank's and a rule's alerts are not over."""
    total: int = connection.execute(
        "SELECT count(*) FROM alerts WHERE run = ? AND rank = ? AND rule = ? AND status <> 'resolved'",
        (run, rank, rule),
    ).fetchone()[0]
    return total


def _read(row: sqlite3.Row) -> Alert:
    return msgspec.structs.replace(_alert.decode(row[1]), id=row[0])
