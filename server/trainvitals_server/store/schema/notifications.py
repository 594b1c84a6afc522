"""The outbox of messages to people."""

STATEMENTS = (
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
