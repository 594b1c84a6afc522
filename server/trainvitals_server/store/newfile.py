"""A database file written whole or not at all, for one person's eyes, and never over another file."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from trainvitals.storage.atomic import write_atomically


def write_database(path: Path, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Let `fill` make a database that then appears as `path`. Raises FileExistsError where something is there, what
    `fill` raises, and OSError; nothing is left then."""
    if path.exists():
        raise FileExistsError(f"expected the name of a file that is not there yet, got {str(path)!r}")

    def write(file: BinaryIO) -> None:
        os.chmod(file.fileno(), 0o600)
        # Nobody else knows of the file, and a half one is thrown away: it needs no journal, and one sync at its end.
        with closing(sqlite3.connect(file.name, isolation_level=None)) as connection:
            for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = OFF", "synchronous = OFF"):
                connection.execute(f"PRAGMA {pragma}")
            fill(connection)

    write_atomically(path, write)
