"""Buckets at ingest, and compaction."""

STATEMENTS = (
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
