# ruff: noqa: S608  # built from the names of this room only; values are always bound
"""What belongs to a run, table by table: what is deleted with it, and what travels with it in a file.

A table that a migration adds must be entered here or in `SHARED`, which a test sees to. Children come before their
parents, so that rows can be deleted in this order and entered in the opposite one.
"""

from typing import NamedTuple

RUN = "run = ?1"
PRODUCER = "producer IN (SELECT id FROM producers WHERE run = ?1)"
LAYOUTS = "SELECT layouts.id FROM layouts JOIN producers ON producers.id = layouts.producer WHERE run = ?1"
LAYOUT = f"layout IN ({LAYOUTS})"
BLOCK = f"block IN (SELECT blocks.id FROM blocks WHERE layout IN ({LAYOUTS}))"


class Table(NamedTuple):
    """`owned` selects the rows of run ?1. At most `batch` rows are deleted at a time, as large as they are; without it
    all, since the table has no row ids and they are few. Those of a table that does not `travel` mean nothing
    elsewhere: what rules remember, messages to people."""

    name: str
    owned: str
    batch: int | None
    travels: bool = True


TABLES = (
    Table("chunks", BLOCK, 8),
    Table("buckets", BLOCK, 8),
    Table("fresh_buckets", LAYOUT, 8),
    Table("levels", LAYOUT, None),
    Table("blocks", LAYOUT, 500),
    Table("spans", LAYOUT, 50),
    Table("shelves", LAYOUT, 500),
    Table("frames", LAYOUT, 4),  # rows of up to 256 KiB
    Table("rule_states", PRODUCER, None, travels=False),
    Table("quarantine", PRODUCER, 50),  # up to 64 KiB each
    Table("notifications", RUN, 500, travels=False),
    Table("events", RUN, 500),
    Table("alerts", RUN, 500),
    Table("commands", RUN, 500),
    Table("layouts", PRODUCER, 10),  # up to some hundred KiB each
    Table("series", RUN, 1000),
    Table("producers", RUN, 1000),
    Table("runs", "id = ?1", 1),
)
SHARED = ("audit", "sessions", "deleted_runs", "_sqlite_migrations", "sqlite_sequence")  # of the server, not of a run
