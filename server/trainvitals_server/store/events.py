"""Events, and the gaps between records."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from trainvitals import wire

Stored = wire.Event | wire.Gap
SERVER = -1  # the sequence number of events that the server itself observed


class Row(NamedTuple):
    """One stored event. `layer` is None where it is about the whole run."""

    id: int
    run: str
    producer: str
    rank: int
    seq: int
    step: int
    time: float
    type: str
    layer: str | None
    record: Stored


SELECT = (
    "SELECT events.id, events.run, producers.producer, producers.rank, seq, step, time, type, layer, record"
    " FROM events JOIN producers ON producers.id = events.producer WHERE events.run = ?"
)


def add(connection: sqlite3.Connection, run: str, producer: int, record: Stored, *, seq: int, step: int = 0) -> int:
    """Store an event and return its id. A gap that names no step is placed at `step`."""
    if isinstance(record, wire.Gap):
        at, time, layer = record.first_step if record.first_step is not None else step, record.until, None
    else:
        at, time, layer = record.step, record.time, getattr(record, "layer", None)
    cursor = connection.execute(
        "INSERT INTO events (run, producer, seq, step, time, type, layer, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (run, producer, seq, at, time, type_of(record), layer, wire.encode(record)),
    )
    identity = cursor.lastrowid
    assert identity is not None  # noqa: S101  # an INSERT has one
    return identity


def type_of(record: Stored) -> str:
    """The event's type in JSON: its tag on the wire."""
    return str(record.__struct_config__.tag)


def get(connection: sqlite3.Connection, run: str, ids: Sequence[int]) -> list[Row]:
    """Events by id, in that order."""
    marks = ",".join("?" * len(ids))
    return _rows(connection.execute(f"{SELECT} AND events.id IN ({marks}) ORDER BY events.id", (run, *ids)))


def find(
    connection: sqlite3.Connection,
    run: str,
    *,
    low: int | None = None,
    high: int | None = None,
    types: Sequence[str] = (),
    after: int = 0,
    limit: int = 1000,
) -> list[Row]:
    """Events of steps `low` to `high`, of these types (none given: all), with ids above `after`, by id."""
    conditions, values = ["events.id > ?"], [after]
    for condition, value in (("step >= ?", low), ("step <= ?", high)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    if types:
        conditions.append(f"type IN ({','.join('?' * len(types))})")
    sql = " AND ".join([SELECT, *conditions]) + " ORDER BY events.id LIMIT ?"
    return _rows(connection.execute(sql, (run, *values, *types, limit)))


def newest(
    connection: sqlite3.Connection, run: str, kind: str, step: int, endings: Mapping[str, int] | None = None
) -> Row | None:
    """The newest event of a type at or before a step; from its step in `endings` on a producer does not count."""
    sql = f"{SELECT} AND type = ? AND step <= ? ORDER BY step DESC, events.id DESC"
    for row in connection.execute(sql, (run, kind, step)):
        if counts(row["producer"], row["step"], endings or {}):
            return _row(row)
    return None


def counts(producer: str, step: int, endings: Mapping[str, int]) -> bool:
    """Whether a producer still told the run at a step."""
    return producer not in endings or step < endings[producer]


def gaps(connection: sqlite3.Connection, producer: int) -> list[tuple[int, wire.Gap]]:
    """A producer's gaps, each with the step it was placed at."""
    rows = connection.execute(
        "SELECT step, record FROM events WHERE run = (SELECT run FROM producers WHERE id = ?1) AND type = 'gap'"
        " AND producer = ?1 ORDER BY id",
        (producer,),
    )
    return [(row[0], record) for row in rows if isinstance(record := wire.decode_record(row[1]), wire.Gap)]


def behind(connection: sqlite3.Connection, producer: int, committed: int) -> list[tuple[int, Stored]]:
    """Ids and records of what is stored under numbers that its producer may still give to others."""
    rows = connection.execute(
        "SELECT id, record FROM events WHERE producer = ? AND seq > ? ORDER BY id", (producer, committed)
    )
    return [(row[0], _decode(row[1])) for row in rows]


def remove(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Delete events by id."""
    connection.executemany("DELETE FROM events WHERE id = ?", [(one,) for one in ids])


def count(connection: sqlite3.Connection, run: str | None = None) -> int:
    """Events stored, of one run or of all."""
    total: int = connection.execute("SELECT count(*) FROM events WHERE ?1 IS NULL OR run = ?1", (run,)).fetchone()[0]
    return total


def fields(record: Stored) -> dict[str, object]:
    """What an event says beside its step, time and layer, as plain Python."""
    data: dict[str, object] = msgspec.to_builtins(record, enc_hook=repr)
    return {key: value for key, value in full(record, data).items() if key not in ("t", "step", "time", "layer")}


def full(record: Stored, data: dict[str, object]) -> dict[str, object]:
    """Put back the fields that the wire leaves out because they have their default."""
    plain = {
        one: msgspec.to_builtins(getattr(record, one), enc_hook=repr)
        for one in record.__struct_fields__
        if one not in data
    }
    return data | plain


def _rows(cursor: sqlite3.Cursor) -> list[Row]:
    return [_row(row) for row in cursor]


def _row(row: sqlite3.Row) -> Row:
    return Row._make((*tuple(row)[:9], _decode(row[9])))


def _decode(data: bytes) -> Stored:
    record = wire.decode_record(data)
    if isinstance(record, wire.Layout | wire.Frame):
        raise TypeError(f"expected an event in table events, got {type(record).__name__}")
    return record
