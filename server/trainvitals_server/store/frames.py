"""Frames, packed: one row holds consecutive frames of one layout. Prepared statements throughout."""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_ROW_BYTES = 256 << 10  # so that reading one step never reads more than this
READ_BYTES = 8 << 20  # how much is joined into one array before it is handed on
BACK_ROWS, BACK_BYTES = 256, 4 << 20  # how far back a value that is absent now is looked for


class Stretch(NamedTuple):
    """Consecutive frames of one layout: int64[n], float64[n], float32[n, m], bool[n, m] or None where all is there."""

    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float32]
    present: NDArray[np.bool_] | None


def add(connection: sqlite3.Connection, layout: int, stretch: Stretch) -> None:
    """Store a stretch, cut into rows of at most `MAX_ROW_BYTES`."""
    n, m = stretch.values.shape
    height = max(1, MAX_ROW_BYTES // max(4 * m, 1))
    for start in range(0, n, height):
        connection.execute(
            'INSERT INTO frames (layout, first_step, last_step, n, steps, times, "values", present)'
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (layout, *_row(stretch, slice(start, start + height))),
        )


def _row(stretch: Stretch, part: slice) -> tuple[int, int, int, bytes, bytes, bytes, bytes | None]:
    steps = stretch.steps[part]
    present = None if stretch.present is None else stretch.present[part]
    bits = None if present is None or present.all() else np.packbits(present, axis=1, bitorder="little").tobytes()
    return (
        int(steps[0]),
        int(steps[-1]),
        len(steps),
        steps.astype("<i8").tobytes(),
        stretch.times[part].astype("<f8").tobytes(),
        stretch.values[part].astype("<f4").tobytes(),
        bits,
    )


def read(connection: sqlite3.Connection, layout: int, width: int, low: int, high: int) -> Iterator[Stretch]:
    """The frames of a layout of `width` columns from step `low` to `high`, both included, in order, a few MiB at a
    time."""
    rows = connection.execute(
        'SELECT n, steps, times, "values", present FROM frames WHERE layout = ? AND last_step >= ? AND first_step <= ?'
        " ORDER BY first_step",
        (layout, low, high),
    )
    some: list[sqlite3.Row] = []
    size = 0
    for row in rows:
        some.append(row)
        size += len(row[3])
        if size >= READ_BYTES:
            yield _within(_join(some, width), low, high)
            some, size = [], 0
    if some:
        yield _within(_join(some, width), low, high)


def known(connection: sqlite3.Connection, layout: int, width: int, step: int) -> Stretch | None:
    """The nearest frame at or before `step`; what is absent in it is as it was last told, within bounds."""
    rows = connection.execute(
        'SELECT n, steps, times, "values", present FROM frames WHERE layout = ? AND first_step <= ?'
        " ORDER BY first_step DESC LIMIT ?",
        (layout, step, BACK_ROWS),
    )
    found: Stretch | None = None
    size = 0
    for row in rows:
        stretch = _within(_join([row], width), 0, step)
        found = _take(stretch, slice(-1, None)) if found is None else found
        size += len(row[3])
        if found.present is None or size > BACK_BYTES:
            break
        found = _filled(found, found.present[0], stretch)
    return found


def _filled(one: Stretch, there: NDArray[np.bool_], earlier: Stretch) -> Stretch:
    """One frame, of which only some is there, with the last values that earlier frames have of the rest."""
    missing = np.flatnonzero(~there)
    present = np.ones((len(earlier.steps), 1), np.bool_) if earlier.present is None else earlier.present[:, missing]
    some = np.broadcast_to(present.any(axis=0), missing.shape)
    row = np.broadcast_to(len(present) - 1 - present[::-1].argmax(axis=0), missing.shape)
    values, there = one.values.copy(), there.copy()
    values[0, missing[some]] = earlier.values[row[some], missing[some]]
    there[missing[some]] = True
    return Stretch(one.steps, one.times, values, None if there.all() else there[None])


def last_step(connection: sqlite3.Connection, layout: int) -> int | None:
    """The newest step of a layout."""
    row = connection.execute(
        "SELECT last_step FROM frames WHERE layout = ? ORDER BY first_step DESC LIMIT 1", (layout,)
    ).fetchone()
    return row[0] if row else None


def next_step(connection: sqlite3.Connection, producer: int, step: int) -> int | None:
    """The first step after `step` at which a row of this producer begins."""
    value: int | None = connection.execute(
        "SELECT min((SELECT first_step FROM frames WHERE layout = layouts.id AND first_step > ?"
        " ORDER BY first_step LIMIT 1)) FROM layouts WHERE producer = ?",
        (step, producer),
    ).fetchone()[0]
    return value


def _join(rows: list[sqlite3.Row], width: int) -> Stretch:
    steps = np.frombuffer(b"".join(row[1] for row in rows), "<i8")
    times = np.frombuffer(b"".join(row[2] for row in rows), "<f8")
    values = np.frombuffer(b"".join(row[3] for row in rows), "<f4").reshape(len(steps), width)
    if all(row[4] is None for row in rows):
        return Stretch(steps, times, values, None)
    return Stretch(steps, times, values, np.concatenate([_present(row, width) for row in rows]))


def _present(row: sqlite3.Row, width: int) -> NDArray[np.bool_]:
    if row[4] is None:
        return np.ones((row[0], width), dtype=np.bool_)
    bits = np.frombuffer(row[4], np.uint8).reshape(row[0], -1)
    return np.unpackbits(bits, axis=1, count=width, bitorder="little").astype(np.bool_)


def _within(stretch: Stretch, low: int, high: int) -> Stretch:
    first, last = np.searchsorted(stretch.steps, [low, high + 1])
    return _take(stretch, slice(int(first), int(last)))


def _take(stretch: Stretch, part: slice) -> Stretch:
    present = None if stretch.present is None else stretch.present[part]
    return Stretch(stretch.steps[part], stretch.times[part], stretch.values[part], present)
