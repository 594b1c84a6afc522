"""Taking in a run's file: read as a stranger's, inspected row by row, entered hidden in small transactions, then shown.

A file that turns out to be wrong half-way leaves nothing: what was entered is hidden, and removed. Reading and
inspecting are done apart from the writer, which only inserts.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from trainvitals_server.errors import RunExistsError
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.life.inspection import Inspector
from trainvitals_server.parts import Parts
from trainvitals_server.store import deletion, journal
from trainvitals_server.store.database import Database
from trainvitals_server.store.entering import Entry
from trainvitals_server.store.possessions import TABLES
from trainvitals_server.store.stranger import Stranger
from trainvitals_server.store.transactions import Connection, transaction

BATCH_BYTES = 1 << 20  # of rows in one transaction, about
ROW_BYTES = 200  # what a row costs beside its blobs

Batch = list[tuple[str, dict[str, Any]]]
Progress = Callable[[int, int], None]  # rows done, of how many


def read(file: Stranger) -> Iterator[Batch]:
    """The rows of a file, inspected, parents first. Raises `FileRefusedError` at the first that is not as it should
    be."""
    inspector = Inspector(file.run)
    batch: Batch = []
    size = 0
    for table in (one.name for one in reversed(TABLES) if one.travels):
        for row in file.rows(table):
            size += ROW_BYTES + sum(len(value) for value in row.values() if isinstance(value, bytes | str))
            checked = _inspect(file, inspector, table, row)
            if checked is not None:
                batch.append((table, checked))
            if size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    yield batch


def _inspect(file: Stranger, inspector: Inspector, table: str, row: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return inspector.check(table, row)
    except (ValueError, msgspec.MsgspecError, RecursionError, OverflowError) as error:
        raise file.refusal(f"its table {table}: {error}") from error


async def import_into(parts: Parts, path: Path, *, role: str, origin: str) -> str:
    """Import a file into a running server, through its writer; the run's id. Raises `FileRefusedError`."""
    with closing(await asyncio.to_thread(Stranger, path, "the file")) as file:
        if file.run in parts.importing:
            raise RunExistsError(f"run {file.run!r} is being imported already")
        parts.importing.add(file.run)
        try:
            entry, batches = Entry(file.run), read(file)
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                await parts.write(partial(_take, entry=entry, batch=batch))
            await parts.write(partial(_finish, entry=entry, role=role, origin=origin))
        finally:
            parts.importing.discard(file.run)
            parts.stories.forget(file.run)
            parts.summaries.forget(file.run)
            parts.upkeep.set()  # what was entered of a file that was refused goes again
        return file.run


def _take(tx: Transaction, entry: Entry, batch: Batch) -> None:
    entry.take(tx.connection, batch)


def _finish(tx: Transaction, entry: Entry, role: str, origin: str) -> None:
    entry.finish(tx.connection, tx.now)
    tx.changes[entry.run].state = "imported"
    journal.audit(tx.connection, tx.now, role=role, origin=origin, action="import", run=entry.run, outcome="imported")


def import_alone(database: Path, path: Path, now: float, progress: Progress) -> str:
    """Import a file into a database that no server uses; the run's id. Raises `FileRefusedError`, `StoreBusyError`."""
    opened = Database(database)
    with closing(opened), closing(opened.writer()) as connection, closing(Stranger(path)) as file:
        _clear(connection)
        entry, done, total = Entry(file.run), 0, file.count()
        try:
            for batch in read(file):
                with transaction(connection):
                    entry.take(connection, batch)
                done += len(batch)
                progress(done, total)
            with transaction(connection):
                entry.finish(connection, now)
                journal.audit(
                    connection, now, role="control", origin="local", action="import", run=file.run, outcome="imported"
                )
        except BaseException:
            _clear(connection)
            raise
        return file.run


def _clear(connection: Connection) -> None:
    """Remove what is hidden: what was entered of a file that was refused, now or by a program that was killed."""
    for run in deletion.hidden(connection):
        more = True
        while more:
            with transaction(connection):
                more = deletion.sweep(connection, run)
