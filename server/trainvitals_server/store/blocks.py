"""Blocks: columns of a layout that are kept together once its frames are compacted.

A block is up to 32 columns of one statistic: few enough that one curve costs little to read, enough that a row for the
map of a statistic is worth its call. What has few columns of its kind shares blocks.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.store.series import Layout

MOST = 32  # columns in a block
FEW = 8  # columns of a statistic that do not make a block of their own


class Block(NamedTuple):
    """Some columns of a layout, by row id."""

    id: int
    columns: NDArray[np.int64]


class Pick(NamedTuple):
    """Which columns of a block are wanted (`rows`), and where they go among all that are (`places`)."""

    block: Block
    rows: NDArray[np.intp]
    places: NDArray[np.intp]


def of(connection: sqlite3.Connection, layout: int) -> list[Block]:
    """A layout's blocks; none before its first compaction."""
    rows = connection.execute("SELECT id, columns FROM blocks WHERE layout = ? ORDER BY place", (layout,))
    return [Block(row[0], np.frombuffer(row[1], "<i4").astype(np.int64)) for row in rows]


def picks(blocks: Sequence[Block], columns: NDArray[np.intp]) -> list[Pick]:
    """Where to find these columns."""
    home = np.full(max(int(block.columns.max()) for block in blocks) + 1, -1)
    inside = home.copy()
    for place, block in enumerate(blocks):
        home[block.columns] = place
        inside[block.columns] = np.arange(len(block.columns))
    of_each = home[columns]
    if (of_each < 0).any():
        raise ValueError(f"expected every column in a block, got {int((of_each < 0).sum())} in none")
    return [
        Pick(blocks[place], inside[columns[where]], where)
        for place in np.unique(of_each).tolist()
        if len(where := np.flatnonzero(of_each == place))
    ]


def make(connection: sqlite3.Connection, layout: Layout) -> None:
    """Divide a layout's columns into blocks, unless that was done."""
    if connection.execute("SELECT 1 FROM blocks WHERE layout = ?", (layout.id,)).fetchone():
        return
    for place, columns in enumerate(divide(layout)):
        connection.execute(
            "INSERT INTO blocks (layout, place, columns) VALUES (?, ?, ?)",
            (layout.id, place, np.array(columns, "<i4").tobytes()),
        )


def divide(layout: Layout) -> list[list[int]]:
    """Columns block by block: those of one statistic in forward order, then the rest."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for column, one in enumerate(layout.declared):
        kinds.setdefault((one.kind, one.stat) if one is not None else ("", ""), []).append(column)
    order = [one.order if one is not None else 0 for one in layout.declared]
    found, rest = [], []
    for columns in kinds.values():
        columns.sort(key=order.__getitem__)
        if len(columns) < FEW:
            rest += columns
        else:
            found += [columns[at : at + MOST] for at in range(0, len(columns), MOST)]
    return found + [rest[at : at + MOST] for at in range(0, len(rest), MOST)]
