"""Runs and their producers. Prepared statements throughout: when a thousand trainers come at the same moment, through
sqlite-utils each hello would take five times as long."""

import sqlite3
from collections.abc import Mapping
from typing import NamedTuple

from trainvitals import wire
from trainvitals_server.store.packing import pack


class Producer(NamedTuple):
    """The parts of a producer's row that queries need. Steps are those of its frames, None before the first."""

    id: int
    run: str
    producer: str
    rank: int
    committed: int
    first_step: int | None
    last_step: int | None
    first_time: float | None
    last_time: float | None
    world_size: int
    launch: str
    ended: bool = False  # on this connection: its process has, and another one brings what it left


class Segment(NamedTuple):
    """Steps `low` to `high`, both included, as told by one producer (row id)."""

    producer: int
    low: int
    high: int


PRODUCER = (
    "SELECT id, run, producer, rank, committed, first_step, last_step, first_time, last_time, world_size, launch"
    " FROM producers"
)
VISIBLE = "WHERE hidden = ''"  # neither being deleted nor half imported


def enter(connection: sqlite3.Connection, who: wire.Identity, now: float) -> tuple[Producer, bool]:
    """The producer that says hello, and whether it is new. Run and producer are made or brought up to date."""
    described = {
        "name": who.name,
        "project": who.project,
        "config": pack(who.config),
        "versions": pack(who.versions),
        "allow": pack(who.allow),
        "auto_sanitize": who.auto_sanitize,
        "last_seen": now,
    }
    if get(connection, who.run) is None:
        created = min(who.started, now) if who.started > 0 else now  # a spool may be older than its arrival here
        _insert(connection, "runs", {"id": who.run, "state": "starting", "created": created, **described})
    known = find_producer(connection, who.run, who.producer)
    if known is not None:
        touch(connection, {who.run: now})
        return known, False
    row = {"run": who.run, "producer": who.producer, "rank": who.rank, "world_size": who.world_size}
    row |= {"host": who.host, "pid": who.pid, "started": who.started, "allow": pack(who.allow)}
    row |= {"launch": who.launch, "follows": who.follows}
    _insert(connection, "producers", row)
    made = find_producer(connection, who.run, who.producer)
    assert made is not None  # noqa: S101  # inserted two lines above
    newest = newest_producer(connection, who.run, who.rank)
    update(connection, who.run, **(described if who.rank == 0 and newest == made else {"last_seen": now}))
    return made, True


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, object]) -> None:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))  # noqa: S608  # our own


def get(connection: sqlite3.Connection, run: str) -> sqlite3.Row | None:
    """One run's row; None for one that is hidden, too."""
    row: sqlite3.Row | None = connection.execute("SELECT * FROM runs WHERE id = ? AND hidden = ''", (run,)).fetchone()
    return row


def list_ids(connection: sqlite3.Connection) -> list[str]:
    """Every run, newest first."""
    rows = connection.execute(f"SELECT id FROM runs {VISIBLE} ORDER BY created DESC, rowid DESC")  # noqa: S608
    return [row[0] for row in rows]


def names(connection: sqlite3.Connection) -> list[dict[str, str]]:
    """The `id` and `name` of every run, newest first."""
    rows = connection.execute(f"SELECT id, name FROM runs {VISIBLE} ORDER BY created DESC, rowid DESC")  # noqa: S608
    return [dict(row) for row in rows]


def update(connection: sqlite3.Connection, run: str, **columns: object) -> None:
    """Set columns of one run."""
    names = ", ".join(f"{name} = ?" for name in columns)
    connection.execute(f"UPDATE runs SET {names} WHERE id = ?", (*columns.values(), run))  # noqa: S608  # names are ours


def touch(connection: sqlite3.Connection, runs: Mapping[str, float]) -> None:
    """Note when each of these runs was heard of."""
    connection.executemany("UPDATE runs SET last_seen = ? WHERE id = ?", [(at, run) for run, at in runs.items()])


def find_producer(connection: sqlite3.Connection, run: str, producer: str) -> Producer | None:
    """A producer by its own id."""
    row = connection.execute(f"{PRODUCER} WHERE run = ? AND producer = ?", (run, producer)).fetchone()
    return Producer(*row) if row else None


def newest_producer(connection: sqlite3.Connection, run: str, rank: int = 0) -> Producer | None:
    """The producer of a rank that started last."""
    row = connection.execute(
        f"{PRODUCER} WHERE run = ? AND rank = ? ORDER BY started DESC, id DESC LIMIT 1", (run, rank)
    ).fetchone()
    return Producer(*row) if row else None


def newest_with_frames(connection: sqlite3.Connection, run: str, rank: int = 0) -> Producer | None:
    """The producer of a rank that started last and has told at least one step."""
    row = connection.execute(
        f"{PRODUCER} WHERE run = ? AND rank = ? AND frames > 0 ORDER BY started DESC, id DESC LIMIT 1", (run, rank)
    ).fetchone()
    return Producer(*row) if row else None


def of_launch(connection: sqlite3.Connection, run: str, launch: str) -> list[Producer]:
    """The producers that step together, one of each rank that has come, by rank."""
    rows = connection.execute(f"{PRODUCER} WHERE run = ? AND launch = ? ORDER BY rank, id", (run, launch))
    return [Producer(*row) for row in rows]


def producer_rows(connection: sqlite3.Connection, run: str) -> list[sqlite3.Row]:
    """Every producer of a run, in the order they started."""
    return connection.execute("SELECT * FROM producers WHERE run = ? ORDER BY started, id", (run,)).fetchall()


def standing(connection: sqlite3.Connection, producer: int) -> tuple[int, str]:
    """The watermark (-1 before the first record), and how the producer ended, "" where nothing is known of that."""
    row = connection.execute("SELECT committed, state FROM producers WHERE id = ?", (producer,)).fetchone()
    return row[0], row[1]


def advance(connection: sqlite3.Connection, producer: int, seq: int, dropped: int = 0) -> None:
    """Move the watermark, and count records that were lost on the way."""
    connection.execute(
        "UPDATE producers SET committed = ?, dropped = dropped + ? WHERE id = ?", (seq, dropped, producer)
    )


def extend(
    connection: sqlite3.Connection, producer: int, steps: tuple[int, int], times: tuple[float, float], n: int
) -> None:
    """Note `n` more frames from the first to the last of `steps`, taken from the first to the last of `times`."""
    connection.execute(
        "UPDATE producers SET first_step = min(coalesce(first_step, ?1), ?1),"
        " last_step = max(coalesce(last_step, ?2), ?2), first_time = coalesce(first_time, ?3), last_time = ?4,"
        " frames = frames + ?5 WHERE id = ?6",
        (*steps, *times, n, producer),
    )


def note_end(connection: sqlite3.Connection, producer: int, state: str, reason: str) -> None:
    """What a producer says of its end."""
    connection.execute("UPDATE producers SET state = ?, reason = ? WHERE id = ?", (state, reason, producer))


def revive(connection: sqlite3.Connection, producer: int) -> None:
    """A producer that was given up as lost speaks again."""
    connection.execute("UPDATE producers SET state = '', reason = '' WHERE id = ? AND state = 'lost'", (producer,))


def newest_rows(connection: sqlite3.Connection, run: str) -> list[sqlite3.Row]:
    """The newest producer of each rank, by rank."""
    rows = {row["rank"]: row for row in producer_rows(connection, run)}
    return [rows[rank] for rank in sorted(rows)]


def segments(connection: sqlite3.Connection, run: str, rank: int, producer: str | None) -> list[Segment]:
    """Which producer tells which steps, oldest first: an older one is hidden from a newer one's first step on. With
    `producer` given, that one alone."""
    rows = connection.execute(
        "SELECT id, producer, first_step, last_step FROM producers WHERE run = ? AND first_step IS NOT NULL"
        " AND (rank = ? OR ? IS NOT NULL) ORDER BY started DESC, id DESC",
        (run, rank, producer),
    ).fetchall()
    if producer is not None:
        return [Segment(row[0], row[2], row[3]) for row in rows if row[1] == producer]
    found: list[Segment] = []
    hidden: int | None = None  # the least first step of any newer producer
    for row in rows:
        high = row[3] if hidden is None else min(row[3], hidden - 1)
        if row[2] <= high:
            found.append(Segment(row[0], row[2], high))
        hidden = row[2] if hidden is None else min(hidden, row[2])
    return found[::-1]


def frame_count(connection: sqlite3.Connection, run: str | None = None) -> int:
    """Frames stored, of one run or of all."""
    total: int = connection.execute(
        "SELECT coalesce(sum(frames), 0) FROM producers WHERE ?1 IS NULL OR run = ?1", (run,)
    ).fetchone()[0]
    return total


def state_counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many runs are in each state."""
    sql = f"SELECT state, count(*) FROM runs {VISIBLE} GROUP BY state"  # noqa: S608
    return dict(connection.execute(sql).fetchall())


def unfinished(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """The runs that may still go on, and their states."""
    states = "('starting', 'live', 'stalled', 'lost')"
    rows = connection.execute(f"SELECT id, state FROM runs {VISIBLE} AND state IN {states}")  # noqa: S608
    return [(row[0], row[1]) for row in rows]


def check_open(connection: sqlite3.Connection, run: str) -> None:
    """Raise ValueError where nothing may be told of a run now: it was deleted, or is being deleted or imported."""
    row = connection.execute("SELECT hidden FROM runs WHERE id = ? AND hidden <> ''", (run,)).fetchone()
    gone = connection.execute("SELECT reason FROM deleted_runs WHERE run = ?", (run,)).fetchone()
    if gone is not None:
        raise ValueError(f"run {run} was deleted here ({gone[0]}); expected another run id")
    if row is not None:
        raise ValueError(f"run {run} is {row[0]}; come again later")


def oldest_ended(
    connection: sqlite3.Connection, *, before: float, lost_before: float, skip: frozenset[str] = frozenset()
) -> sqlite3.Row | None:
    """The id, name and end of the run that ended first, before a moment; not one that is pinned or in `skip`. A lost
    run has ended where there was no contact since `lost_before`, an imported one counts from its import."""
    rows = connection.execute(
        "SELECT id, name, coalesce(imported, ended, last_seen) AS over FROM runs WHERE hidden = '' AND pinned = 0"
        " AND (state IN ('finished', 'failed', 'imported') OR (state = 'lost' AND last_seen < ?))"
        " AND over < ? ORDER BY over, rowid",
        (lost_before, before),
    )
    return next((row for row in rows if row["id"] not in skip), None)
