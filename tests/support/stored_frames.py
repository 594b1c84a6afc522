"""Which frames a database holds of a producer, read from its tables: those that came lately as rows of many, older ones
compacted into spans. A row at or before what its layout has in spans is a leftover that counts for nothing."""

import sqlite3
from collections.abc import Iterator

import numpy as np

Key = tuple[int, int]  # the layout's number on the wire, and the step


def stored_frames(connection: sqlite3.Connection, producer: int) -> Iterator[Key]:
    """Every frame of a producer (row id), layout by layout, in the order in which they are kept."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    layouts = connection.execute("SELECT id, layout FROM layouts WHERE producer = ?", (producer,)).fetchall()
    for identity, number in layouts:
        packed = -1
        if "spans" in tables:
            row = connection.execute("SELECT packed FROM shelves WHERE layout = ?", (identity,)).fetchone()
            packed = row[0] if row else -1
            yield from ((number, step) for step in _spans(connection, identity) if step <= packed)
        rows = connection.execute("SELECT steps FROM frames WHERE layout = ? ORDER BY id", (identity,))
        yield from ((number, int(step)) for (some,) in rows for step in np.frombuffer(some, "<i8") if step > packed)


def _spans(connection: sqlite3.Connection, layout: int) -> Iterator[int]:
    """Steps are int64, their bytes sorted by significance and compressed."""
    import zstandard  # only where there are any

    for (data,) in connection.execute("SELECT steps FROM spans WHERE layout = ? ORDER BY id", (layout,)):
        planes = np.frombuffer(zstandard.decompress(data), np.uint8).reshape(8, -1)
        yield from np.ascontiguousarray(planes.T).view("<i8").ravel().tolist()
