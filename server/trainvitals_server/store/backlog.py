"""Frames that ingest left in no bucket: those of before there were buckets, and where too many would have to be read
back. They get theirs bit by bit, until ingest can take over again."""

import sqlite3
from collections.abc import Callable
from functools import partial

import numpy as np

from trainvitals_server.store import frames, fresh, shelves
from trainvitals_server.store.course import Course, join, lay
from trainvitals_server.store.shelves import Shelf

PART_VALUES = 1 << 20  # frames x columns that one job puts into buckets


def plan(connection: sqlite3.Connection, shelf: Shelf, width: int) -> Callable[[sqlite3.Connection], None]:
    """The next job for a layout of `width` columns that is behind."""
    if shelf.width is None:
        return partial(_settle, shelf=shelf)
    newest = frames.last_step(connection, shelf.layout)
    target = 0 if newest is None else newest // shelf.width * shelf.width
    if target <= shelf.bucketed:
        return partial(shelves.note_behind, layout=shelf.layout, behind=False)
    some: list[Course] = []
    values, reach = 0, target
    for stretch in frames.read(connection, shelf, width, shelf.bucketed, target - 1):
        some.append(lay(stretch, shelf.width))
        values += stretch.values.size
        if values >= PART_VALUES and some[-1].at[-1] > some[0].at[0]:
            reach = int(some[-1].at[-1]) * shelf.width  # the last one may go on
            break
    course = join(some)
    done = course.part(slice(0, int(np.searchsorted(course.at, reach // shelf.width))))
    return partial(_store, shelf=shelf, course=done, reach=reach)


def _settle(connection: sqlite3.Connection, shelf: Shelf) -> None:
    steps = frames.first_steps(connection, shelf.layout, shelves.BASE + 1)
    if len(steps) > shelves.BASE:
        shelves.settle(connection, shelf, steps)
    else:
        shelves.note_behind(connection, shelf.layout, behind=False)


def _store(connection: sqlite3.Connection, shelf: Shelf, course: Course, reach: int) -> None:
    now = shelves.get(connection, shelf.layout)
    if now is not None and now.bucketed == shelf.bucketed:
        fresh.store(connection, shelf.layout, course)
        shelves.advance(connection, shelf.layout, reach, int(course.frames.sum()))
