"""The tables of the first version."""

STATEMENTS = (
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
