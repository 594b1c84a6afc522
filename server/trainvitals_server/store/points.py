"""The points of a layout as they were told, from compacted and hot frames alike."""

import sqlite3
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store import frames, series, shelves, spans
from trainvitals_server.store.stretch import Stretch


def read(
    connection: sqlite3.Connection,
    layout: int,
    width: int,
    low: int,
    high: int,
    columns: NDArray[np.intp] | None = None,
) -> Iterator[Stretch]:
    """The frames of a layout (row id) of `width` columns from step `low` to `high`, both included, in order, a few MiB
    at a time; of all columns or of some, as given."""
    shelf = shelves.get(connection, layout)
    if shelf is None or low > high:
        return
    yield from spans.read(connection, shelf, low, high, np.arange(width) if columns is None else columns)
    yield from frames.read(connection, shelf, width, low, high, columns)


def of_series(
    connection: sqlite3.Connection, run: str, wanted: int, low: int = 0, high: int = (1 << 63) - 1
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]]:
    """Every point of one series (id), whichever producer told it: producer (row id), steps, times and values, a few at
    a time, in the order of producers, their layouts, and steps."""
    ids = [row[0] for row in connection.execute("SELECT id FROM producers WHERE run = ? ORDER BY started, id", (run,))]
    for producer in ids:
        for layout in series.outlines(connection, [producer]):
            column = np.flatnonzero(layout.columns == wanted)
            if not len(column):
                continue
            for stretch in read(connection, layout.id, len(layout.columns), low, high, column):
                there = slice(None) if stretch.present is None else stretch.present[:, 0]
                yield producer, stretch.steps[there], stretch.times[there], stretch.values[there, 0]


def nearest(connection: sqlite3.Connection, layout: int, step: int) -> tuple[int, float] | None:
    """Step and time of the newest frame of a layout at or before `step`."""
    row = connection.execute(
        "SELECT n, steps, times, NULL, NULL FROM frames WHERE layout = ?1 AND first_step <= ?2"
        " AND first_step > (SELECT packed FROM shelves WHERE layout = ?1) ORDER BY first_step DESC LIMIT 1",
        (layout, step),
    ).fetchone()
    if row is not None:
        steps, times = np.frombuffer(row[1], "<i8"), np.frombuffer(row[2], "<f8")
    else:
        found = spans.places_before(connection, layout, step)
        if found is None:
            return None
        steps, times = found
    place = int(np.searchsorted(steps, step, "right")) - 1
    return int(steps[place]), float(times[place])


def next_step(connection: sqlite3.Connection, producer: int, step: int) -> int | None:
    """The first step after `step` at which this producer has a frame."""
    layouts = [row[0] for row in connection.execute("SELECT id FROM layouts WHERE producer = ?", (producer,))]
    found = [one for layout in layouts if (one := _next(connection, layout, step)) is not None]
    return min(found, default=None)


def _next(connection: sqlite3.Connection, layout: int, step: int) -> int | None:
    """The first step of a layout after `step`: in a span or a hot row that ends behind it, whichever comes first."""
    shelf = shelves.get(connection, layout)
    if shelf is None:
        return None
    if shelf.packed > step:
        return spans.next_step(connection, layout, step)
    row = connection.execute(
        "SELECT steps FROM frames WHERE layout = ?1 AND last_step > ?2 AND first_step > ?3 AND first_step >= coalesce("
        "(SELECT max(first_step) FROM frames WHERE layout = ?1 AND first_step <= ?2), ?2) ORDER BY first_step LIMIT 1",
        (layout, step, shelf.packed),
    ).fetchone()
    if row is None:
        return None
    steps = np.frombuffer(row[0], "<i8")
    return int(steps[np.searchsorted(steps, step, "right")])
