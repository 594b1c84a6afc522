"""Transactions of the writing connection, and the savepoints inside one."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from trainvitals_server.errors import StoreBusyError

Connection = sqlite3.Connection
OWN = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)  # the part's fault, not the database's


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All of it is on the disk when the block has ended, or none of it. Raises `StoreBusyError` where the database
    cannot be written."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            with suppress(sqlite3.Error):  # the first error says more; the next transaction tries again
                connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.DatabaseError):
            raise StoreBusyError(f"the database cannot be written: {error}") from error
        raise


@contextmanager
def part(connection: Connection) -> Iterator[None]:
    """A part of a transaction that is undone where it raises, without the rest. Raises `StoreBusyError` where the
    database cannot be written, which undoes everything."""
    connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException as error:
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, OWN):
            raise StoreBusyError(f"the database cannot be written: {error}") from error
        connection.execute("ROLLBACK TO part")
        connection.execute("RELEASE part")
        raise
    connection.execute("RELEASE part")
