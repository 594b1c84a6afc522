"""How far each layout's frames have come on their way into buckets and spans: the watermarks, and nothing else."""

import sqlite3
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FAN = 8  # buckets of a level in one of the next: 2**3
PER_ROW = 128  # buckets in a row of table `buckets`
BASE = 32  # frames in a bucket of level 0: it costs 0.55 bytes a point, 16 would cost 1.1 and 64 save 0.3
MAX_WIDTH = 1 << 30  # steps in a bucket of any level, so that places inside fit 32 bits


class Shelf(NamedTuple):
    """The watermarks of a layout (row id), as in table `shelves`."""

    layout: int
    width: int | None
    bucketed: int
    waiting: int
    behind: bool
    packed: int

    def width_of(self, level: int) -> int:
        """Steps in a bucket of a level."""
        return (self.width or 1) << (3 * level)

    def top(self) -> int:
        """The highest level there may be."""
        level = 0
        while 0 < self.width_of(level + 1) <= MAX_WIDTH:
            level += 1
        return level


SELECT = "SELECT layout, width, bucketed, waiting, behind, packed FROM shelves"


def get(connection: sqlite3.Connection, layout: int) -> Shelf | None:
    """A layout's shelf; None before its first frame."""
    row = connection.execute(f"{SELECT} WHERE layout = ?", (layout,)).fetchone()
    return _shelf(row) if row else None


def list_all(connection: sqlite3.Connection) -> list[Shelf]:
    """Every shelf."""
    return [_shelf(row) for row in connection.execute(SELECT)]


def list_idle(connection: sqlite3.Connection, before: float) -> list[int]:
    """The layouts with rows of frames that could be compacted, of producers that ended, or of runs that were last heard
    of before a time."""
    rows = connection.execute(
        "SELECT shelves.layout FROM shelves JOIN layouts ON layouts.id = shelves.layout"
        " JOIN producers ON producers.id = layouts.producer JOIN runs ON runs.id = producers.run"
        " WHERE shelves.waiting > 0 AND (runs.last_seen < ? OR producers.state <> '') AND EXISTS (SELECT 1 FROM frames"
        " WHERE frames.layout = shelves.layout AND first_step > packed AND last_step < bucketed)",
        (before,),
    )
    return [row[0] for row in rows]


def make(connection: sqlite3.Connection, layout: int, first_step: int) -> Shelf:
    """The shelf of a layout whose first frame is at `first_step`."""
    connection.execute("INSERT INTO shelves (layout, bucketed) VALUES (?, ?)", (layout, first_step))
    return Shelf(layout, None, first_step, 0, False, -1)


def choose_width(steps: NDArray[np.int64]) -> int:
    """Steps in a bucket of level 0, by the first frames: `BASE` of them, and a power of two."""
    stride = max(1.0, float(steps[-1] - steps[0]) / max(1, len(steps) - 1))
    width = BASE << max(0, int(np.ceil(np.log2(stride))))
    return min(width, MAX_WIDTH)


def settle(connection: sqlite3.Connection, shelf: Shelf, steps: NDArray[np.int64]) -> Shelf:
    """The shelf with a width that suits its first frames, at `steps`."""
    width = choose_width(steps)
    bucketed = shelf.bucketed // width * width
    connection.execute("UPDATE shelves SET width = ?, bucketed = ? WHERE layout = ?", (width, bucketed, shelf.layout))
    return shelf._replace(width=width, bucketed=bucketed)


def advance(connection: sqlite3.Connection, layout: int, bucketed: int, frames: int) -> None:
    """Note that `frames` more frames are in buckets, all before step `bucketed`."""
    connection.execute(
        "UPDATE shelves SET bucketed = ?, waiting = waiting + ? WHERE layout = ?", (bucketed, frames, layout)
    )


def note_behind(connection: sqlite3.Connection, layout: int, *, behind: bool) -> None:
    """Leave the buckets to the background, or take them back."""
    connection.execute("UPDATE shelves SET behind = ? WHERE layout = ?", (behind, layout))


def note_packed(connection: sqlite3.Connection, layout: int, packed: int, frames: int) -> None:
    """Note that `frames` more frames are in spans, up to step `packed`."""
    connection.execute(
        "UPDATE shelves SET packed = ?, waiting = max(0, waiting - ?) WHERE layout = ?", (packed, frames, layout)
    )


def reaches(connection: sqlite3.Connection, layout: int) -> dict[int, int]:
    """Level -> the step before which its buckets are in table `buckets`."""
    return dict(connection.execute("SELECT level, reach FROM levels WHERE layout = ?", (layout,)).fetchall())


def note_reach(connection: sqlite3.Connection, layout: int, level: int, reach: int) -> None:
    """Note that a level's buckets before step `reach` are in table `buckets`."""
    connection.execute(
        "INSERT INTO levels (layout, level, reach) VALUES (?, ?, ?)"
        " ON CONFLICT (layout, level) DO UPDATE SET reach = excluded.reach",
        (layout, level, reach),
    )


def _shelf(row: sqlite3.Row) -> Shelf:
    return Shelf(row[0], row[1], row[2], row[3], bool(row[4]), row[5])
