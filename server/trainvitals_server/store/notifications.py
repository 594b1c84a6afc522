"""The outbox: messages to people, each claimed under a lease by the server that sends it."""

import sqlite3
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from trainvitals_server.notifications.message import Message
from trainvitals_server.store.packing import pack, unpack

State = Literal["waiting", "sent", "failed"]

FURTHEST = 7200.0  # seconds: nothing is due or leased further ahead, unless a clock was set back meanwhile
_message = msgspec.msgpack.Decoder(Message)


# Waiting, due, and leased to nobody. A time too far ahead is one of a clock that was set back since.
DUE = "state = 'waiting' AND (due <= :now OR due > :far) AND (lease IS NULL OR lease <= :now OR lease > :far)"


class Claimed(NamedTuple):
    """A message to send now, for the `tries`-th time, to every target that is not in `done`."""

    message: Message
    tries: int
    done: frozenset[str]


def add(connection: sqlite3.Connection, message: Message, *, now: float, due: float, held: int = 0) -> None:
    """Put in a message, unless it is there. `held` is how many others a digest stands for."""
    connection.execute(
        "INSERT INTO notifications (id, run, created, due, held, body, done) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        (message.id, message.run, now, due, held, pack(message), pack([])),
    )


def count_since(connection: sqlite3.Connection, run: str, since: float) -> int:
    """How many messages of a run were put in since a time, digests not counted."""
    total: int = connection.execute(
        "SELECT count(*) FROM notifications WHERE run = ? AND created > ? AND held = 0", (run, since)
    ).fetchone()[0]
    return total


def open_digest(connection: sqlite3.Connection, run: str, now: float) -> tuple[Message, int] | None:
    """A run's digest that is not due yet, and how many messages it stands for."""
    row = connection.execute(
        "SELECT body, held FROM notifications WHERE run = ? AND held > 0 AND state = 'waiting' AND tries = 0"
        " AND due > ? AND due < ?",
        (run, now, now + FURTHEST),
    ).fetchone()
    return (_message.decode(row[0]), row[1]) if row else None


def rewrite(connection: sqlite3.Connection, message: Message, *, held: int) -> None:
    """Change what a digest says."""
    connection.execute("UPDATE notifications SET body = ?, held = ? WHERE id = ?", (pack(message), held, message.id))


def any_due(connection: sqlite3.Connection, now: float) -> bool:
    """Whether there is anything to claim."""
    found = connection.execute(f"SELECT 1 FROM notifications WHERE {DUE} LIMIT 1", _moment(now)).fetchone()  # noqa: S608
    return found is not None


def claim(
    connection: sqlite3.Connection, *, now: float, holder: str, lease: float, limit: int, most_tries: int
) -> list[Claimed]:
    """Lease the oldest messages that are due to `holder`, until `lease`; each claim counts as a try, so that a server
    that dies of one does not try for ever."""
    rows = connection.execute(
        "UPDATE notifications SET holder = :holder, lease = :lease, tries = tries + 1 WHERE id IN"  # noqa: S608
        f" (SELECT id FROM notifications WHERE {DUE} AND tries < :most ORDER BY due LIMIT :limit)"
        " RETURNING body, tries, done, due",
        {**_moment(now), "holder": holder, "lease": lease, "limit": limit, "most": most_tries},
    ).fetchall()
    ordered = sorted(rows, key=lambda row: float(row["due"]))
    return [Claimed(_message.decode(row["body"]), row["tries"], frozenset(unpack(row["done"]))) for row in ordered]


def give_up(connection: sqlite3.Connection, *, now: float, oldest: float, most_tries: int) -> int:
    """Fail what was tried often enough by a server that ended meanwhile, and what waits since before `oldest`; how
    many there were."""
    return connection.execute(
        "UPDATE notifications SET state = 'failed', lease = NULL, error ="  # noqa: S608
        " CASE WHEN tries >= :most THEN 'the server ended during the last try' ELSE 'too old to be sent' END"
        f" WHERE {DUE} AND (tries >= :most OR created < :oldest)",
        {**_moment(now), "most": most_tries, "oldest": oldest},
    ).rowcount


def settle(
    connection: sqlite3.Connection,
    identity: str,
    holder: str,
    *,
    state: State,
    due: float,
    done: Iterable[str],
    error: str = "",
) -> None:
    """Note what became of a try, and end its lease; nothing where another server has claimed the message since."""
    connection.execute(
        "UPDATE notifications SET state = ?, due = ?, done = ?, error = ?, lease = NULL WHERE id = ? AND holder = ?",
        (state, due, pack(sorted(done)), error, identity, holder),
    )


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many messages are in each state."""
    return dict(connection.execute("SELECT state, count(*) FROM notifications GROUP BY state").fetchall())


def find(connection: sqlite3.Connection, run: str | None = None) -> list[dict[str, object]]:
    """The messages of a run (None: of all), oldest first, with what became of them."""
    rows = connection.execute(
        "SELECT id, state, tries, due, held, error, done, body FROM notifications WHERE (?1 IS NULL OR run = ?1)"
        " ORDER BY created, rowid",
        (run,),
    )
    return [
        dict(row) | {"done": unpack(row["done"]), "body": _message.decode(row["body"])}  # the message itself
        for row in rows
    ]


def _moment(now: float) -> dict[str, float]:
    return {"now": now, "far": now + FURTHEST}
