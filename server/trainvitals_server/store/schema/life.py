"""Runs that are pinned, deleted or imported; views."""

from trainvitals_server.store.views import VIEWS

STATEMENTS = (
    "ALTER TABLE runs ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0",  # retention leaves it alone
    # 'deleting' or 'importing': not there for anybody, and finished or undone by whoever opens the file next
    "ALTER TABLE runs ADD COLUMN hidden TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE runs ADD COLUMN imported REAL",
    "ALTER TABLE runs ADD COLUMN outcome TEXT NOT NULL DEFAULT ''",  # the state it had where it was imported from
    "CREATE INDEX runs_hidden ON runs (hidden) WHERE hidden <> ''",
    # Runs that were deleted, so that no trainer or spool that still knows of one brings it back.
    """
    CREATE TABLE deleted_runs (
        run TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        time REAL NOT NULL,
        reason TEXT NOT NULL
    )""",
    "CREATE INDEX events_by_producer ON events (producer)",  # deleting a producer looks for what refers to it
    "CREATE INDEX quarantine_by_producer ON quarantine (producer)",
    *VIEWS,
)
