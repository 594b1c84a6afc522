"""Series of a run, and the layouts that say which column of a frame is which series."""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from trainvitals import wire
from trainvitals_server.store.packing import pack

MOST = 4  # times as many series as are asked for are read at once; one by one each costs about as much more
OWN = 1 << 31  # numbers of the server's own layouts: those of trainers begin at 0 and end here
UNDECLARED = -1  # in a layout's columns: a piece of it has not arrived
_columns = msgspec.msgpack.Decoder(tuple[wire.Series | None, ...])


@lru_cache(maxsize=16)  # each with all its strings, some 250 bytes a column
def _decode(declared: bytes) -> tuple[wire.Series | None, ...]:
    """What some columns are. The same tuple for the same bytes: a thousand runs of one network share it, and what is
    worked out from it."""
    return _columns.decode(declared)


class Row(NamedTuple):
    """One series as the page knows it."""

    id: int
    layer: str
    kind: str
    stat: str
    order: int


class Layout(NamedTuple):
    """The columns of some frames: `columns` is int64[total] of series ids, `declared` the wire's description."""

    id: int
    producer: int
    layout: int
    columns: NDArray[np.int64]
    declared: tuple[wire.Series | None, ...]

    @property
    def whole(self) -> bool:
        """Whether every piece has arrived."""
        return not (self.columns == UNDECLARED).any()


class Outline(NamedTuple):
    """What questions need of a layout: its row id, its producer, and which series its columns are."""

    id: int
    producer: int
    columns: NDArray[np.int64]


def enter(connection: sqlite3.Connection, run: str, declared: Sequence[wire.Series]) -> list[Row]:
    """The rows of these series, in their order; made, or moved to their new place in forward order."""
    connection.executemany(
        "INSERT INTO series (run, layer, kind, stat, place) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (run, layer, kind, stat) DO UPDATE SET place = excluded.place WHERE place <> excluded.place",
        [(run, one.layer, one.kind, one.stat, one.order) for one in declared],
    )
    ids = _ids(connection, run, declared)
    return [Row(ids[one.layer, one.kind, one.stat], one.layer, one.kind, one.stat, one.order) for one in declared]


def _ids(connection: sqlite3.Connection, run: str, declared: Sequence[wire.Series]) -> dict[tuple[str, str, str], int]:
    """The ids of these series: all of the run's at once where most of them are asked for."""
    if count(connection, run) <= MOST * len(declared):
        rows = connection.execute("SELECT layer, kind, stat, id FROM series WHERE run = ?", (run,)).fetchall()
        return {(row[0], row[1], row[2]): row[3] for row in rows}
    find = "SELECT id FROM series WHERE run = ? AND layer = ? AND kind = ? AND stat = ?"
    keys = [(one.layer, one.kind, one.stat) for one in declared]
    return {key: connection.execute(find, (run, *key)).fetchone()[0] for key in keys}


def list_all(connection: sqlite3.Connection, run: str) -> list[Row]:
    """Every series of a run, in forward order."""
    rows = connection.execute(
        "SELECT id, layer, kind, stat, place FROM series WHERE run = ? ORDER BY place, layer, kind, id", (run,)
    )
    return [Row(*row) for row in rows]


def list_counters(connection: sqlite3.Connection, run: str) -> list[int]:
    """The series (ids) that count channels of running statistics which are non-finite or negative."""
    rows = connection.execute(
        "SELECT id FROM series WHERE run = ? AND kind = ? AND stat IN (?, ?)",
        (run, wire.NORM, wire.NONFINITE_CHANNELS, wire.NEGATIVE_CHANNELS),
    )
    return [row[0] for row in rows]


def count(connection: sqlite3.Connection, run: str) -> int:
    """How many series a run has."""
    total: int = connection.execute("SELECT count(*) FROM series WHERE run = ?", (run,)).fetchone()[0]
    return total


def layouts(connection: sqlite3.Connection, producers: Iterable[int]) -> list[Layout]:
    """Every layout of these producers (row ids), oldest first."""
    wanted = list(producers)
    marks = ",".join("?" * len(wanted))
    rows = connection.execute(
        f"SELECT id, producer, layout, columns, declared FROM layouts WHERE producer IN ({marks}) ORDER BY id",  # noqa: S608
        wanted,
    )
    return [_layout(row) for row in rows]


def outlines(connection: sqlite3.Connection, producers: Iterable[int]) -> list[Outline]:
    """Every layout of these producers (row ids), oldest first, without what the wire said of each column."""
    wanted = list(producers)
    marks = ",".join("?" * len(wanted))
    rows = connection.execute(
        f"SELECT id, producer, columns FROM layouts WHERE producer IN ({marks}) ORDER BY id",  # noqa: S608
        wanted,
    )
    return [Outline(row[0], row[1], np.frombuffer(row[2], "<i8").astype(np.int64)) for row in rows]


def layout(connection: sqlite3.Connection, producer: int, number: int) -> Layout | None:
    """A producer's layout by its own number."""
    row = connection.execute(
        "SELECT id, producer, layout, columns, declared FROM layouts WHERE producer = ? AND layout = ?",
        (producer, number),
    ).fetchone()
    return _layout(row) if row else None


def layout_by_id(connection: sqlite3.Connection, identity: int) -> Layout | None:
    """The layout of a row id."""
    row = connection.execute(
        "SELECT id, producer, layout, columns, declared FROM layouts WHERE id = ?", (identity,)
    ).fetchone()
    return _layout(row) if row else None


def save(
    connection: sqlite3.Connection,
    producer: int,
    number: int,
    columns: NDArray[np.int64],
    declared: list[wire.Series | None],
) -> Layout:
    """Keep a layout as far as it is known."""
    connection.execute(
        "INSERT INTO layouts (producer, layout, total, columns, declared) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (producer, layout) DO UPDATE SET columns = excluded.columns, declared = excluded.declared",
        (producer, number, len(columns), columns.astype("<i8").tobytes(), pack(declared)),
    )
    found = layout(connection, producer, number)
    assert found is not None  # noqa: S101  # written by the statement above
    return found


def _layout(row: sqlite3.Row) -> Layout:
    return Layout(row[0], row[1], row[2], np.frombuffer(row[3], "<i8").astype(np.int64), _decode(row[4]))
