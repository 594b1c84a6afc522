"""Several ranks of one run."""

STATEMENTS = (
    "ALTER TABLE producers ADD COLUMN launch TEXT NOT NULL DEFAULT ''",  # the same for ranks that step together
    # its statistics are copies of rank 0's, which repairs them
    "ALTER TABLE producers ADD COLUMN follows INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE producers ADD COLUMN state TEXT NOT NULL DEFAULT ''",  # how it said that it ended
    "ALTER TABLE producers ADD COLUMN reason TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE commands ADD COLUMN whole TEXT",  # the command for rank 0 of which this is another rank's part
    "ALTER TABLE commands ADD COLUMN rank INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX commands_parts ON commands (whole) WHERE whole IS NOT NULL",
)
