"""The room a database takes, and giving back what deleted rows leave."""

import sqlite3
from pathlib import Path
from typing import NamedTuple


class Space(NamedTuple):
    """Bytes: of the file, of that in use, and of the log beside it."""

    file: int
    used: int
    log: int


def measure(connection: sqlite3.Connection, path: Path) -> Space:
    """What the database at `path` takes."""
    size, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    log = path.with_name(f"{path.name}-wal")
    return Space(pages * size, (pages - free) * size, log.stat().st_size if log.exists() else 0)


def free_pages(connection: sqlite3.Connection) -> int:
    """Pages that nothing is in."""
    pages: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return pages


def shrink(connection: sqlite3.Connection, pages: int) -> int:
    """Give up to `pages` free pages at the end of the file back to the disk; how many are still free. One statement
    gives back one page: the driver ends a PRAGMA without columns at its first step."""
    for _ in range(min(pages, free_pages(connection))):
        connection.execute("PRAGMA incremental_vacuum(1)")
    return free_pages(connection)
