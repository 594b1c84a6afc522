"""Deleting the points of a run, a bounded part at a time: frames, buckets and all that was made of them."""

import sqlite3

OF_LAYOUT = ("frames", "fresh_buckets", "spans")
OF_BLOCK = ("chunks", "buckets")
LAYOUTS = "SELECT layouts.id FROM layouts JOIN producers ON producers.id = layouts.producer WHERE producers.run = ?"
BLOCKS = f"SELECT id FROM blocks WHERE layout IN ({LAYOUTS})"  # noqa: S608


def remove_points(connection: sqlite3.Connection, run: str, most: int = 64) -> bool:
    """Delete at most `most` rows of values; whether there may be more. Once there are none, what says where they were
    is deleted as well; then the run's layouts have no rows that refer to them."""
    for tables, column, owners in ((OF_LAYOUT, "layout", LAYOUTS), (OF_BLOCK, "block", BLOCKS)):
        for table in tables:
            gone = connection.execute(
                f"DELETE FROM {table} WHERE id IN"  # noqa: S608  # tables and columns of ours
                f" (SELECT id FROM {table} WHERE {column} IN ({owners}) LIMIT ?)",
                (run, most),
            ).rowcount
            if gone:
                return True
    for table in ("levels", "blocks", "shelves"):
        connection.execute(f"DELETE FROM {table} WHERE layout IN ({LAYOUTS})", (run,))  # noqa: S608
    return False
