"""What each rule remembers of each producer."""

import sqlite3


def load(connection: sqlite3.Connection, producer: int) -> dict[str, bytes]:
    """Every rule's state."""
    return dict(connection.execute("SELECT rule, state FROM rule_states WHERE producer = ?", (producer,)).fetchall())


def save(connection: sqlite3.Connection, producer: int, changed: dict[str, bytes]) -> None:
    """Store states over what was there."""
    connection.executemany(
        "INSERT INTO rule_states (producer, rule, state) VALUES (?, ?, ?)"
        " ON CONFLICT (producer, rule) DO UPDATE SET state = excluded.state",
        [(producer, rule, state) for rule, state in changed.items()],
    )
