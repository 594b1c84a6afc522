# ruff: noqa: S608  # built from the names of this room only; values are always bound
"""Views for whoever looks into the file with plain `sqlite3` or datasette: names begin with `v_`, times are ISO-8601
UTC. The program itself reads none of them. Columns that are MessagePack cannot be written out in SQL and are left out;
`trainvitals query` and `--json` of the reading verbs show them. docs/schema.md describes each view."""


def _iso(column: str) -> str:
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', {column}, 'unixepoch')"


def _byte(place: int) -> str:
    """One byte of entry `i` of an int64 array, as a number."""
    digits, at = "'0123456789ABCDEF'", f"hex(substr(columns, 8 * i + {place + 1}, 1))"
    high, low = (f"(instr({digits}, substr({at}, {digit}, 1)) - 1)" for digit in (1, 2))
    return f"(({high} << {8 * place + 4}) + ({low} << {8 * place}))"


VIEWS = (
    f"""
    CREATE VIEW v_runs AS
    SELECT id, name, project, state, outcome, reason, altered, pinned, auto_sanitize,
           {_iso("created")} AS created, {_iso("last_seen")} AS last_seen, {_iso("ended")} AS ended,
           {_iso("imported")} AS imported
    FROM runs WHERE hidden = ''""",
    f"""
    CREATE VIEW v_producers AS
    SELECT id, run, producer, rank, world_size, host, pid, {_iso("started")} AS started, state, reason, first_step,
           last_step, {_iso("first_time")} AS first_time, {_iso("last_time")} AS last_time, frames, dropped, committed
    FROM producers""",
    """
    CREATE VIEW v_series AS
    SELECT id, run, place, layer, kind, stat FROM series""",
    # One row per column of a layout. Of the eight bytes of an id the lower five are read; undeclared ones are NULL.
    f"""
    CREATE VIEW v_layouts AS
    WITH RECURSIVE place (layout, i, total, columns) AS (
        SELECT id, 0, total, columns FROM layouts WHERE total > 0
        UNION ALL SELECT layout, i + 1, total, columns FROM place WHERE i + 1 < total
    ), entry AS (
        SELECT layout, i, hex(substr(columns, 8 * i + 8, 1)) = 'FF' AS undeclared,
               {" + ".join(_byte(place) for place in range(5))} AS series
        FROM place
    )
    SELECT producers.run, producers.producer, producers.rank, layouts.id AS layout, layouts.layout AS number,
           entry.i AS "column", series.id AS series, series.layer, series.kind, series.stat
    FROM entry JOIN layouts ON layouts.id = entry.layout JOIN producers ON producers.id = layouts.producer
    LEFT JOIN series ON series.id = entry.series AND NOT entry.undeclared""",
    f"""
    CREATE VIEW v_events AS
    SELECT events.id, events.run, producers.producer, producers.rank, seq, step, {_iso("time")} AS time, type, layer
    FROM events JOIN producers ON producers.id = events.producer""",
    """
    CREATE VIEW v_alerts AS
    SELECT id, run, rank, rule, layer, status FROM alerts""",
    f"""
    CREATE VIEW v_commands AS
    SELECT id, run, producer, rank, action, strategy, dry_run, state, reason, step, role,
           {_iso("requested")} AS requested, {_iso("delivered")} AS delivered, {_iso("applied")} AS applied,
           {_iso("verified")} AS verified
    FROM commands""",
    f"""
    CREATE VIEW v_audit AS
    SELECT id, {_iso("time")} AS time, role, origin, action, run, command, outcome, detail FROM audit""",
)
