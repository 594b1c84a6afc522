"""The tables, as commented DDL, one file for each change of them; and which of them a database has been through.

History
- `checksums`: of what is kept as it came.
- `life`: what is kept or goes: runs pinned, hidden while they are deleted or imported, remembered once deleted; views.
- `pyramid`: buckets of every series, and the frames of before as compressed columns.
- `notifications`: messages to people, an outbox.
- `second`: which producers step together, and how each ended; a command has parts, one for each rank it addresses.
- `first`: runs, producers, series, layouts, frames, events, rule states, alerts, commands, audit, quarantine, sessions.

A migration that was released is never changed: databases have been through it, and files of other versions are compared
with what it makes, word for word.
"""

import sqlite3
from collections.abc import Callable, Iterable
from types import ModuleType

from sqlite_utils import Database, Migrations

from trainvitals_server.errors import NewerSchemaError, SchemaError
from trainvitals_server.store.schema import checksums, first, life, notifications, pyramid, second

MIGRATIONS = Migrations("trainvitals")


def doing(version: ModuleType) -> Callable[[Database], None]:
    """A migration by the statements of this version."""

    def migrate(db: Database) -> None:
        for statement in version.STATEMENTS:
            db.execute(statement)

    return migrate


# The oldest first. Their names are in every database.
for _name, _module in (
    ("first", first),
    ("second", second),
    ("notifications", notifications),
    ("pyramid", pyramid),
    ("life", life),
    ("checksums", checksums),
):
    MIGRATIONS(name=_name)(doing(_module))


def known() -> list[str]:
    """Every version, the oldest first."""
    return [one.name for one in MIGRATIONS._migrations]


def applied(db: Database) -> list[str]:
    """The versions a database has been through, the oldest first. Raises sqlite3.Error."""
    try:
        return [one.name for one in MIGRATIONS.applied(db)]
    except UnicodeDecodeError as error:  # the driver's, in place of SQLite's own error, which quotes the damaged text
        raise sqlite3.DatabaseError(f"malformed database schema ({error})") from error


def check_version(db: Database) -> None:
    """Raise `NewerSchemaError` where a newer program has changed the database, `SchemaError` where it is of another
    one, in which nothing of ours shall be made."""
    versions = applied(db)
    strange = [name for name in versions if name not in known()]
    if strange:
        raise NewerSchemaError(
            f"its schema is {strange[-1]!r}, of a newer trainvitals than this one, which knows up to {known()[-1]!r}"
        )
    if not versions and (tables := [name for name in db.table_names() if name != "_sqlite_migrations"]):
        raise SchemaError(f"expected a database of trainvitals, got one of something else (table {tables[0][:60]!r})")


def check_made(db: Database) -> None:
    """The same, and `SchemaError` where there is nothing in it: for whoever only reads."""
    check_version(db)
    if not applied(db):
        raise SchemaError("expected a database of trainvitals, got an empty file")


def build(db: Database, names: Iterable[str]) -> None:
    """The tables of a version, in an empty database: the migrations of these names, in their order."""
    wanted = set(names)
    for one in MIGRATIONS._migrations:
        if one.name in wanted:
            one.fn(db)
    MIGRATIONS.ensure_migrations_table(db)


def migrate(db: Database) -> None:
    """Bring a database to the newest version, in one transaction: a program that is killed meanwhile leaves the old
    one. Raises `NewerSchemaError`."""
    check_version(db)
    if set(applied(db)) == set(known()):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        check_version(db)  # another program may have been quicker
        MIGRATIONS.apply(db)
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
