"""Browsers that signed in. Cookies and tokens are known here by their SHA-256 only."""

import sqlite3

import sqlite_utils


def add(connection: sqlite3.Connection, cookie: str, token: str, role: str, expires: float) -> None:
    """Keep a session."""
    row = {"cookie": cookie, "token": token, "role": role, "expires": expires}
    sqlite_utils.Database(connection).table("sessions").insert(row)


def valid(connection: sqlite3.Connection, token: str, now: float) -> dict[str, tuple[str, float]]:
    """Cookie hash -> role and expiry, of the sessions minted under this control token."""
    rows = connection.execute(
        "SELECT cookie, role, expires FROM sessions WHERE token = ? AND expires > ?", (token, now)
    ).fetchall()
    return {row[0]: (row[1], row[2]) for row in rows}


def prune(connection: sqlite3.Connection, token: str, now: float) -> None:
    """Forget the sessions that ended, and those of an older control token."""
    connection.execute("DELETE FROM sessions WHERE token <> ? OR expires <= ?", (token, now))
