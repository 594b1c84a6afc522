"""From every released version to today's, with what was stored then; and killed half-way, as with a newer file."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
import sqlite_utils

from served import Served
from trainvitals import wire
from trainvitals_server.errors import NewerSchemaError
from trainvitals_server.life.importing import import_alone
from trainvitals_server.store import events, history, journal, runs, schema, series
from trainvitals_server.store.backup import back_up
from trainvitals_server.store.database import Database, open_reading
from trainvitals_server.store.packing import pack

STEPS = 200


def build(path: Path, version: str) -> None:
    """A database as the program of that version left it, with a run of that time: frames of two series, an event, an
    alert, a command, an audited refusal."""
    names = schema.known()
    following = names[names.index(version) + 1 :]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        db = sqlite_utils.Database(connection)
        schema.MIGRATIONS.apply(db, stop_before=following)
        fill(connection)


def fill(connection: sqlite3.Connection) -> None:
    """Rows that every version could have, by the columns of the first."""
    empty, none = pack({}), pack([])
    connection.execute(
        "INSERT INTO runs (id, name, project, config, versions, allow, auto_sanitize, state, created, last_seen)"
        " VALUES ('old', 'old', 'p', ?, ?, ?, 'restore', 'finished', 1.0, 2.0)",
        (empty, empty, none),
    )
    connection.execute(
        "INSERT INTO producers (id, run, producer, rank, world_size, host, pid, started, allow, committed, first_step,"
        " last_step, first_time, last_time, frames)"
        " VALUES (1, 'old', 'p-1', 0, 1, 'h', 1, 1.0, ?, ?, 0, ?, 1.0, 2.0, ?)",
        (none, STEPS, STEPS - 1, STEPS),
    )
    declared = [wire.Series(0, "", wire.RUN, wire.LOSS, 0), wire.Series(1, "a", wire.NORM, wire.MEAN_MIN, 0)]
    for one in declared:
        connection.execute(
            "INSERT INTO series (id, run, layer, kind, stat, place) VALUES (?, 'old', ?, ?, ?, 0)",
            (one.id + 1, one.layer, one.kind, one.stat),
        )
    connection.execute(
        "INSERT INTO layouts (id, producer, layout, total, columns, declared) VALUES (1, 1, 0, 2, ?, ?)",
        (np.array([1, 2], "<i8").tobytes(), pack(declared)),
    )
    for low in range(0, STEPS, 40):
        steps = np.arange(low, low + 40)
        values = np.stack([steps, np.where(steps == 77, np.nan, -steps)], axis=1)
        blobs = (steps.astype("<i8"), steps.astype("<f8"), values.astype("<f4"))
        connection.execute(
            'INSERT INTO frames (layout, first_step, last_step, n, steps, times, "values")'
            " VALUES (1, ?, ?, 40, ?, ?, ?)",
            (low, low + 39, *(blob.tobytes() for blob in blobs)),
        )
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'shelves'").fetchone():
        connection.execute("INSERT INTO shelves (layout, bucketed, behind) VALUES (1, 0, 1)")
    event = wire.Checkpoint(step=5, time=3.0, outcome="saved", path="x.pth")
    connection.execute(
        "INSERT INTO events (run, producer, seq, step, time, type, record)"
        " VALUES ('old', 1, 9, 5, 3.0, 'checkpoint', ?)",
        (wire.encode(event),),
    )
    connection.execute(
        "INSERT INTO audit (time, role, origin, action, outcome) VALUES (1.0, 'view', 'x', 'sanitize', 'denied')"
    )


def check(path: Path) -> None:
    """All of it can be read as if today's program had stored it."""
    database = Database(path)
    with database.reading() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert runs.list_ids(connection) == ["old"]
        assert [row.stat for row in series.list_all(connection, "old")] == [wire.LOSS, wire.MEAN_MIN]
        found = history.read_range(connection, history.Question("old"), [1, 2], 4000).buckets
        loss, mean = found.column(0), found.column(1)
        assert (loss["n"].sum(), loss["sum"].sum()) == (STEPS, STEPS * (STEPS - 1) / 2)
        assert (mean["n"].sum(), mean["n_nan"].sum(), np.nanmin(mean["min"])) == (STEPS, 1, 1 - STEPS)
        assert [one.type for one in events.find(connection, "old")] == ["checkpoint"]
        assert connection.execute("SELECT outcome FROM audit").fetchall()[0][0] == "denied"
        assert schema.applied(sqlite_utils.Database(connection)) == schema.known()
    database.close()


def dump(path: Path) -> str:
    """Schema and rows, as text, the moments of migrations aside."""
    with closing(open_reading(path)) as connection:
        lines = list(connection.iterdump())
    return "\n".join(line for line in lines if '"_sqlite_migrations" VALUES' not in line)


VERSIONS = schema.known()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_every_version_stored_is_there_today(version: str, tmp_path: Path) -> None:
    """And opening it again changes nothing."""
    path = tmp_path / "old.db"
    build(path, version)
    check(path)
    before = dump(path)
    check(path)
    assert dump(path) == before


@pytest.mark.parametrize("version", VERSIONS[:2])
def test_a_server_of_today_shows_what_an_older_one_stored(version: str, private_home: Path) -> None:
    """Over HTTP, and it goes on storing."""
    private_home.mkdir()
    build(private_home / "trainvitals.db", version)
    with Served(private_home) as served:
        (run,) = served.get("/api/runs")["runs"]
        assert (run["id"], run["step"]) == ("old", STEPS - 1)
        with served.trainer("new") as trainer:
            trainer.hello()
        assert len(served.get("/api/runs")["runs"]) == 2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_of_every_version_can_be_imported(version: str, tmp_path: Path) -> None:
    """What its version did not have is as if it had just been migrated."""
    path = tmp_path / "old.db"
    build(path, version)
    import_alone(tmp_path / "here.db", path, 9.0, lambda done, total: None)
    with closing(Database(tmp_path / "here.db").writer()) as connection:
        journal.audit(connection, 1.0, role="view", origin="x", action="sanitize", outcome="denied")
        connection.execute("DROP TRIGGER audit_keeps_rows")
        connection.execute("DELETE FROM audit WHERE action = 'import'")
    check(tmp_path / "here.db")


KILLED = """
import os, signal, sys
from pathlib import Path
import sqlite_utils
from trainvitals_server.store.database import Database

left = int(sys.argv[2])
execute = sqlite_utils.Database.execute


def counted(self, sql, parameters=None):
    global left
    if not sql.startswith(("PRAGMA", "SELECT", "select")):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return execute(self, sql, parameters)


sqlite_utils.Database.execute = counted
Database(Path(sys.argv[1])).close()
print(left)
"""


@pytest.mark.parametrize("at", [1, 2, 5, 9, 14, 20, 25])
def test_a_migration_that_is_killed_leaves_the_old_version_or_the_new_one(at: int, tmp_path: Path) -> None:
    """Killed before its n-th statement: never a mixture, and the next start completes it."""
    path = tmp_path / "old.db"
    build(path, "first")
    before = dump(path)
    command = [sys.executable, "-c", KILLED, str(path), str(at)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    assert dump(path) == before
    check(path)


def test_the_places_of_the_kills_are_within_the_migration(tmp_path: Path) -> None:
    """There are more statements than the last one above."""
    build(tmp_path / "old.db", "first")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "old.db"), "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert 1000 - int(done.stdout) > 25


def test_a_newer_schema_is_refused_with_both_names_and_not_touched(tmp_path: Path) -> None:
    """By everything that opens a database."""
    path = tmp_path / "new.db"
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('trainvitals', 'thirtieth')")
    before = path.read_bytes()
    said = f"'thirtieth', of a newer trainvitals than this one, which knows up to '{VERSIONS[-1]}'"
    with pytest.raises(NewerSchemaError, match=said):
        Database(path)
    with pytest.raises(NewerSchemaError, match=said):
        back_up(path, tmp_path / "copy.db", lambda done, total: None)
    assert path.read_bytes() == before
    assert sorted(one.name for one in tmp_path.iterdir()) == ["new.db"]


def test_the_packing_of_the_first_version_is_still_read() -> None:
    """MessagePack, maps for structs."""
    assert msgspec.msgpack.decode(pack({"a": [1, None]})) == {"a": [1, None]}
