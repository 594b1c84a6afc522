# ruff: noqa: S608  # built from the names of the schema; values are always bound
"""One run in one file: a database of the same schema that holds that run and nothing of the server's own: no audit, no
sessions, no tokens, no messages to people, nothing that rules remember."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path

import sqlite_utils

from trainvitals_server.errors import FileRefusedError
from trainvitals_server.store import compaction, schema, shelves
from trainvitals_server.store.database import MISSHAPEN
from trainvitals_server.store.newfile import write_database
from trainvitals_server.store.possessions import TABLES, Table
from trainvitals_server.store.space import free_pages

BATCH = 100  # rows between two words about the progress

Progress = Callable[[int, int], None]  # rows done, of how many


def write_parcel(source: Path, run: str, target: Path, progress: Progress) -> None:
    """Copy a run of the database `source`, as it is in one snapshot, into the new file `target`. Raises
    FileExistsError, OSError, `FileRefusedError` where there is no such run, and `ReadError`."""

    def fill(connection: sqlite3.Connection) -> None:
        schema.migrate(sqlite_utils.Database(connection))
        connection.execute("ATTACH ? AS source", (f"{source.absolute().as_uri()}?mode=ro",))
        connection.execute("BEGIN")
        _copy(connection, run, progress)
        connection.execute("UPDATE runs SET pinned = 0")
        connection.execute("COMMIT")
        connection.execute("DETACH source")
        _compact(connection)

    write_database(target, fill)


def _copy(connection: sqlite3.Connection, run: str, progress: Progress) -> None:
    """Parents first: which rows of a table are the run's is read from those that were copied before."""
    if connection.execute("SELECT 1 FROM source.runs WHERE id = ? AND hidden = ''", (run,)).fetchone() is None:
        raise FileRefusedError(f"expected the id of a run of this database, got {run[:100]!r}")
    done, total = 0, _rows(connection, run)
    for table in reversed(TABLES):
        if not table.travels:
            continue
        names = ", ".join(f'"{name}"' for name in columns(connection, table.name))
        insert = f"INSERT INTO main.{table.name} ({names}) SELECT {names} FROM source.{table.name}"
        if table.batch is None:
            connection.execute(f"{insert} WHERE {table.owned}", (run,))
            continue
        ids = connection.execute(f"SELECT rowid FROM source.{table.name} WHERE {table.owned}", (run,)).fetchall()
        for start in range(0, len(ids), BATCH):
            some = ids[start : start + BATCH]
            connection.executemany(f"{insert} WHERE rowid = ?", some)
            done += len(some)
            progress(done, total)


def _compact(connection: sqlite3.Connection) -> None:
    """Frames that are still as they came are compressed, as they will be where they came from. What is damaged stays as
    it is, and keeps nothing else from being carried away."""
    for shelf in shelves.list_all(connection):
        with suppress(*MISSHAPEN):
            while stages := compaction.plan(connection, shelf.layout, idle=True):
                connection.execute("BEGIN")
                for job in chain.from_iterable(stages):
                    job(connection)
                connection.execute("COMMIT")
    if free_pages(connection):
        connection.execute("VACUUM")


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    """The names of a table's columns."""
    return [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]


def _rows(connection: sqlite3.Connection, run: str) -> int:
    """How many rows a run has, in the attached database. The conditions name tables without saying of which database,
    so they are asked of it alone, by its own names."""
    total = 0
    for table in TABLES:
        if table.travels and table.batch is not None:
            total += connection.execute(f"SELECT count(*) FROM {_inside(table)}", (run,)).fetchone()[0]
    return total


def _inside(table: Table) -> str:
    condition = table.owned
    for one in ("layouts", "producers", "blocks"):
        condition = condition.replace(f"FROM {one}", f"FROM source.{one}").replace(f"JOIN {one}", f"JOIN source.{one}")
    return f"source.{table.name} WHERE {condition}"
