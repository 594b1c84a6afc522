"""The tables, as commented DDL, and the history of their changes.

History
- `life`: what is kept or goes: runs pinned, hidden while they are deleted or imported, remembered once deleted; views.
- `pyramid`: buckets of every series, and the frames of before as compressed columns.
- `notifications`: messages to people, an outbox.
- `second`: which producers step together, and how each ended; a command has parts, one for each rank it addresses.
- `first`: runs, producers, series, layouts, frames, events, rule states, alerts, commands, audit, quarantine, sessions.
"""

from collections.abc import Iterable

from sqlite_utils import Database, Migrations

from trainvitals_server.errors import NewerSchemaError, SchemaError
from trainvitals_server.store.views import VIEWS

MIGRATIONS = Migrations("trainvitals")

FIRST = (
    # What a person means by "the run". `state` is as in runs/states.py; structured columns are MessagePack.
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        project TEXT NOT NULL,
        config BLOB NOT NULL,
        versions BLOB NOT NULL,
        allow BLOB NOT NULL,
        auto_sanitize TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        altered INTEGER NOT NULL DEFAULT 0,   -- an automatic repair changed the model
        created REAL NOT NULL,
        last_seen REAL NOT NULL,              -- last contact with any of its producers
        ended REAL
    )""",
    # One process's strictly increasing steps. `committed` is the watermark: every record up to it is stored, was
    # quarantined, or lies in a gap.
    """
    CREATE TABLE producers (
        id INTEGER PRIMARY KEY,
        run TEXT NOT NULL REFERENCES runs(id),
        producer TEXT NOT NULL,
        rank INTEGER NOT NULL,
        world_size INTEGER NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started REAL NOT NULL,
        allow BLOB NOT NULL,
        committed INTEGER NOT NULL DEFAULT -1,
        first_step INTEGER,                   -- of its frames
        last_step INTEGER,
        first_time REAL,
        last_time REAL,
        frames INTEGER NOT NULL DEFAULT 0,
        dropped INTEGER NOT NULL DEFAULT 0,   -- records in gaps
        UNIQUE (run, producer)
    )""",
    # One curve of a run, whatever producer draws it.
    """
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        run TEXT NOT NULL REFERENCES runs(id),
        layer TEXT NOT NULL,
        kind TEXT NOT NULL,
        stat TEXT NOT NULL,
        place INTEGER NOT NULL,               -- in forward order
        UNIQUE (run, layer, kind, stat)
    )""",
    # The columns of a producer's frames: `columns` is int64[total] of series ids (-1: not declared yet), `declared`
    # the wire's own description of each column.
    """
    CREATE TABLE layouts (
        id INTEGER PRIMARY KEY,
        producer INTEGER NOT NULL REFERENCES producers(id),
        layout INTEGER NOT NULL,
        total INTEGER NOT NULL,
        columns BLOB NOT NULL,
        declared BLOB NOT NULL,
        UNIQUE (producer, layout)
    )""",
    # Many frames of one layout, packed: int64[n], float64[n], float32[n, total] and, where any value is absent,
    # uint8[n, ceil(total / 8)] bitmaps, least significant bit first. All little-endian.
    """
    CREATE TABLE frames (
        id INTEGER PRIMARY KEY,
        layout INTEGER NOT NULL REFERENCES layouts(id),
        first_step INTEGER NOT NULL,
        last_step INTEGER NOT NULL,
        n INTEGER NOT NULL,
        steps BLOB NOT NULL,
        times BLOB NOT NULL,
        "values" BLOB NOT NULL,
        present BLOB,
        UNIQUE (layout, first_step)
    )""",
    # What happened, never thinned. `record` is the wire record as it came; `seq` is -1 for what the server observed,
    # and above the producer's watermark for what another process said of its end.
    """
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run TEXT NOT NULL REFERENCES runs(id),
        producer INTEGER NOT NULL REFERENCES producers(id),
        seq INTEGER NOT NULL,
        step INTEGER NOT NULL,
        time REAL NOT NULL,
        type TEXT NOT NULL,
        layer TEXT,
        record BLOB NOT NULL
    )""",
    "CREATE INDEX events_by_step ON events (run, step)",
    "CREATE INDEX events_by_type ON events (run, type, step)",
    # What each rule remembers of each producer; commits with the watermark.
    """
    CREATE TABLE rule_states (
        producer INTEGER NOT NULL REFERENCES producers(id),
        rule TEXT NOT NULL,
        state BLOB NOT NULL,
        PRIMARY KEY (producer, rule)
    ) WITHOUT ROWID""",
    # One alert per run, rank, rule and layer ('' for the whole run) over its whole life.
    """
    CREATE TABLE alerts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        run TEXT NOT NULL REFERENCES runs(id),
        rank INTEGER NOT NULL,
        rule TEXT NOT NULL,
        layer TEXT NOT NULL,
        status TEXT NOT NULL,
        body BLOB NOT NULL,                   -- the alert, MessagePack
        UNIQUE (run, rank, rule, layer)
    )""",
    # Requests to trainers; `state` is as in commands/states.py.
    """
    CREATE TABLE commands (
        id TEXT PRIMARY KEY,
        run TEXT NOT NULL REFERENCES runs(id),
        producer TEXT NOT NULL,
        action TEXT NOT NULL,
        strategy TEXT,
        layers BLOB NOT NULL,
        dry_run INTEGER NOT NULL,
        of TEXT,
        key TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '',
        step INTEGER,
        result BLOB NOT NULL,
        requested REAL NOT NULL,
        delivered REAL,
        applied REAL,
        verified REAL,
        expires REAL NOT NULL,
        role TEXT NOT NULL,
        UNIQUE (run, key)
    )""",
    "CREATE INDEX commands_open ON commands (state) WHERE state = 'requested'",
    # Who asked for what, and what came of it. Append-only, which the database itself enforces.
    """
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time REAL NOT NULL,
        role TEXT NOT NULL,
        origin TEXT NOT NULL,                 -- the peer's address, or the producer that reported
        action TEXT NOT NULL,
        run TEXT,
        command TEXT,
        outcome TEXT NOT NULL,
        detail TEXT NOT NULL DEFAULT ''
    )""",
    """
    CREATE TRIGGER audit_keeps_rows BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END""",
    """
    CREATE TRIGGER audit_keeps_values BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END""",
    # Records that will never be accepted, as they came.
    """
    CREATE TABLE quarantine (
        id INTEGER PRIMARY KEY,
        producer INTEGER NOT NULL REFERENCES producers(id),
        seq INTEGER NOT NULL,
        time REAL NOT NULL,
        reason TEXT NOT NULL,
        record BLOB NOT NULL
    )""",
    # Browsers that signed in: SHA-256 of the cookie, and of the control token it was minted under.
    """
    CREATE TABLE sessions (
        cookie TEXT PRIMARY KEY,
        token TEXT NOT NULL,
        role TEXT NOT NULL,
        expires REAL NOT NULL
    )""",
)


SECOND = (
    "ALTER TABLE producers ADD COLUMN launch TEXT NOT NULL DEFAULT ''",  # the same for ranks that step together
    # its statistics are copies of rank 0's, which repairs them
    "ALTER TABLE producers ADD COLUMN follows INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE producers ADD COLUMN state TEXT NOT NULL DEFAULT ''",  # how it said that it ended
    "ALTER TABLE producers ADD COLUMN reason TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE commands ADD COLUMN whole TEXT",  # the command for rank 0 of which this is another rank's part
    "ALTER TABLE commands ADD COLUMN rank INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX commands_parts ON commands (whole) WHERE whole IS NOT NULL",
)

LIFE = (
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


NOTIFICATIONS = (
    # Messages to people, written with what they tell of and claimed under a lease by the server that sends them.
    """
    CREATE TABLE notifications (
        id TEXT PRIMARY KEY,                  -- what receivers may tell repeats by
        run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,
        created REAL NOT NULL,
        due REAL NOT NULL,                    -- not to be sent before
        held INTEGER NOT NULL,                -- how many messages this one stands for; 0: it is one itself
        state TEXT NOT NULL DEFAULT 'waiting',  -- waiting, sent, failed
        tries INTEGER NOT NULL DEFAULT 0,
        holder TEXT,                          -- who sends it ...
        lease REAL,                           -- ... until then; NULL: nobody does
        done BLOB NOT NULL,                   -- the targets that have it, without their secrets; MessagePack
        error TEXT NOT NULL DEFAULT '',       -- of the last try
        body BLOB NOT NULL                    -- the message, MessagePack
    )""",
    "CREATE INDEX notifications_waiting ON notifications (due) WHERE state = 'waiting'",
    "CREATE INDEX notifications_run ON notifications (run, created)",
)


PYRAMID = (
    # How far a layout's frames have come. Up to here its buckets and spans are the truth; what lies beyond is read
    # from the rows that they will be made of. Every change of a watermark is one transaction with what it tells of.
    """
    CREATE TABLE shelves (
        layout INTEGER PRIMARY KEY REFERENCES layouts(id),
        width INTEGER,                        -- steps in a bucket of level 0, a power of two; NULL: not chosen yet
        bucketed INTEGER NOT NULL,            -- every frame before this step is in buckets of level 0
        waiting INTEGER NOT NULL DEFAULT 0,   -- how many of those frames are not in spans yet
        behind INTEGER NOT NULL DEFAULT 0,    -- ingest makes no buckets, the background does until it has caught up
        packed INTEGER NOT NULL DEFAULT -1    -- every frame up to this step is in spans: such rows of `frames` are
                                              -- leftovers, never read, to be deleted
    )""",
    # Buckets of a level (width of level 0 times 8 to its power) are in `buckets` before step `reach`. Those of
    # level 0 behind it are in `fresh_buckets`, those of other levels are only in the level below.
    """
    CREATE TABLE levels (
        layout INTEGER NOT NULL REFERENCES layouts(id),
        level INTEGER NOT NULL,
        reach INTEGER NOT NULL,
        PRIMARY KEY (layout, level)
    ) WITHOUT ROWID""",
    # Columns of a layout that are kept together: up to 32 of one statistic, in forward order. Every column of a layout
    # is in exactly one of its blocks.
    """
    CREATE TABLE blocks (
        id INTEGER PRIMARY KEY,
        layout INTEGER NOT NULL REFERENCES layouts(id),
        place INTEGER NOT NULL,               -- 0, 1, ... within the layout
        columns BLOB NOT NULL,                -- int32[m]: which of the layout's columns
        UNIQUE (layout, place)
    )""",
    # Frames that were compacted: their steps and times, for all columns of a layout. int64[n] and float64[n], packed
    # as in store/codec.py: the n-th bytes of all numbers together, then zstd.
    """
    CREATE TABLE spans (
        id INTEGER PRIMARY KEY,
        layout INTEGER NOT NULL REFERENCES layouts(id),
        first_step INTEGER NOT NULL,
        last_step INTEGER NOT NULL,
        n INTEGER NOT NULL,
        steps BLOB NOT NULL,
        times BLOB NOT NULL,
        UNIQUE (layout, first_step)
    )""",
    # Values of one block in the frames of the span that begins at `first_step`: float32[m, n], packed; and, where any
    # value is absent, bits uint8[m, ceil(n / 8)], least significant first, zstd. A row without its span does not
    # count: it was left by work that was cut short.
    """
    CREATE TABLE chunks (
        id INTEGER PRIMARY KEY,
        block INTEGER NOT NULL REFERENCES blocks(id),
        first_step INTEGER NOT NULL,
        "values" BLOB NOT NULL,
        present BLOB,
        UNIQUE (block, first_step)
    )""",
    # Buckets of level 0 as ingest made them, k of them for all m columns of a layout, in the same transaction as the
    # frames. `shape`: int64[4, k], which bucket (its first step / width), first and last step of the frames in it,
    # and how many. `edges`: float32[5, k, m]: smallest and largest finite value (Infinity and -Infinity where there is
    # none), first and last value as they were, mean of the finite ones. `odd`, only where any value is absent or not
    # finite: int32[6, k, m], packed: values, NaN, +Infinity, -Infinity, and where in the bucket the first and the
    # last value are (steps behind its first; -1: no value).
    """
    CREATE TABLE fresh_buckets (
        id INTEGER PRIMARY KEY,
        layout INTEGER NOT NULL REFERENCES layouts(id),
        start INTEGER NOT NULL,               -- number of the first bucket
        shape BLOB NOT NULL,
        edges BLOB NOT NULL,
        odd BLOB,
        UNIQUE (layout, start)
    )""",
    # The same, compacted, by block and level: up to 128 buckets, those numbered `start` to `start` + 127. All packed:
    # `shape` as above, every other field [m, k]. A row behind its level's `reach` does not count.
    """
    CREATE TABLE buckets (
        id INTEGER PRIMARY KEY,
        block INTEGER NOT NULL REFERENCES blocks(id),
        level INTEGER NOT NULL,
        start INTEGER NOT NULL,
        shape BLOB NOT NULL,
        odd BLOB,
        "max" BLOB NOT NULL,
        "last" BLOB NOT NULL,
        "min" BLOB NOT NULL,
        "first" BLOB NOT NULL,
        mean BLOB NOT NULL,
        UNIQUE (block, level, start)
    )""",
    # Frames of before have no buckets yet: they get them bit by bit, in the background.
    "INSERT INTO shelves (layout, bucketed, behind) SELECT layout, min(first_step), 1 FROM frames GROUP BY layout",
)


@MIGRATIONS()
def first(db: Database) -> None:
    """The tables of the first version."""
    for statement in FIRST:
        db.execute(statement)


@MIGRATIONS()
def second(db: Database) -> None:
    """Several ranks of one run."""
    for statement in SECOND:
        db.execute(statement)


@MIGRATIONS()
def notifications(db: Database) -> None:
    """The outbox."""
    for statement in NOTIFICATIONS:
        db.execute(statement)


@MIGRATIONS()
def pyramid(db: Database) -> None:
    """Buckets at ingest, and compaction."""
    for statement in PYRAMID:
        db.execute(statement)


@MIGRATIONS()
def life(db: Database) -> None:
    """Pinned, deleted and imported runs; views."""
    for statement in LIFE:
        db.execute(statement)


def known() -> list[str]:
    """Every version, the oldest first."""
    return [one.name for one in MIGRATIONS._migrations]


def applied(db: Database) -> list[str]:
    """The versions a database has been through, the oldest first."""
    return [one.name for one in MIGRATIONS.applied(db)]


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
