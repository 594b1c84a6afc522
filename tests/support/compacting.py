"""A process that compacts a small store, and is gone in the middle of it: `compacting.py DIRECTORY STATEMENTS`."""

import itertools
import os
import sys
from pathlib import Path

import pytest

from stored import shrink
from trainvitals_server.store import compaction, shelves
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import transaction


def main(directory: Path, statements: int) -> None:
    """Exit at once, with 9, when so many statements have begun; with 0 when there is nothing left to do."""
    shrink(pytest.MonkeyPatch())
    connection = Database(directory / "stored.db").writer()
    left = statements

    def count(_: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            os._exit(9)

    connection.set_trace_callback(count)
    for shelf in shelves.list_all(connection):
        while plan := compaction.plan(connection, shelf.layout, idle=True):
            for job in itertools.chain(*plan):
                with transaction(connection):
                    job(connection)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
