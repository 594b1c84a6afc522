"""What a trainer may say wrongly to a real server, and a server to a trainer; and a migration that is cut short."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from itertools import takewhile
from pathlib import Path

import pytest
import sqlite_utils

import planted_faults
from auditor import audit
from fault_table import Row
from ledger import Producer, Record
from served import close_of, frame, layout
from speech import speaking
from trainvitals import wire
from trainvitals_server.store import schema
from trainvitals_server.store.database import configure, create
from ward import Ward

Enter = Callable[..., None]
MESSAGES = [layout(("", wire.RUN, wire.LOSS)), *(frame(step, [step]) for step in range(1, 200))]
MOST_STATEMENTS = 200  # of all migrations but the first
SUPPORT = Path(planted_faults.__file__).parent
OPEN = """
import sys
from pathlib import Path
from planted_faults import plant
from trainvitals_server.store.database import Database
plant(sys.argv[1])
Database(Path(sys.argv[2]))
"""


def told(acked: int) -> Producer:
    """What the raw trainer holds, and what was acknowledged."""
    kinds = [Record("layout", -1, 1), *(Record("frame", step, 1) for step in range(1, 200))]
    return Producer(dict(enumerate(kinds)), dict.fromkeys(range(200), 0.0), [(acked, 0.0)])


def test_duplicate_reordered_and_gapped_batches(visited: Ward, enter: Enter) -> None:
    """What was there is acknowledged and not stored again; a hole is refused; all is there once, in order."""
    row = Row("duplicate, reordered, gapped batches", "duplicates acked, gaps nacked")
    with speaking(visited.program) as trainer:
        trainer.hello(next=200)
        trainer.send(*MESSAGES[0:50], first=0)
        assert trainer.hear(wire.Ack).seq == 49
        trainer.send(*MESSAGES[0:50], first=0)  # again
        assert trainer.hear(wire.Ack).seq == 49
        trainer.send(*MESSAGES[100:150], first=100)  # too early
        assert (nack := trainer.hear(wire.Nack)).kind == "gap"
        assert nack.seq == 50
        trainer.send(*MESSAGES[30:100], first=30)  # overlapping
        assert trainer.hear(wire.Ack).seq == 99
        trainer.send(*MESSAGES[150:200], first=150)
        assert trainer.hear(wire.Nack).seq == 100
        trainer.send(*MESSAGES[90:200], first=90)
        last = trainer.hear(wire.Ack).seq
    row.count(audit(visited.database, "raw", {"p": told(last)}))
    row.recovery = 0.0
    enter(row)
    assert (row.acked, row.stored) == (200, 200)


@pytest.mark.parametrize(("off", "name"), [(-1, "older"), (1, "newer")])
def test_another_protocol_is_refused(visited: Ward, enter: Enter, off: int, name: str) -> None:
    """In words, before anything is stored."""
    with speaking(visited.program, f"{name}-protocol") as trainer:
        trainer.say(wire.Hello(protocol=wire.PROTOCOL + off, identity=trainer.identity, first=0, next=1))
        assert close_of(trainer.socket) == (1008, f"expected protocol {wire.PROTOCOL}, got {wire.PROTOCOL + off}")
    assert f"{name}-protocol" not in {one["id"] for one in visited.program.get("/api/runs")["runs"]}
    row = Row(f"{name} protocol", "explicit refusal", recovery=0.0)
    row.count(audit(visited.database, "raw", {}))
    enter(row)


def before(path: Path) -> None:
    """A database as the first version made it, with a run in it."""
    create(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        configure(connection)
        _, *later = [one.name for one in schema.MIGRATIONS.pending(sqlite_utils.Database(connection))]
        schema.MIGRATIONS.apply(sqlite_utils.Database(connection), stop_before=later)
        connection.execute(
            "INSERT INTO runs (id, name, project, config, versions, allow, auto_sanitize, state, created, last_seen)"
            " VALUES ('old', 'old', 'p', x'80', x'80', x'90', 'restore', 'lost', 1, 1)"
        )


def applied(path: Path) -> list[str]:
    """The migrations that the database knows of."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [name for (name,) in connection.execute("SELECT name FROM _sqlite_migrations ORDER BY id")]


def test_a_migration_cut_short(make_ward: Callable[..., Ward], enter: Enter) -> None:
    """Killed before its first, fourth, seventh ... statement: a step is there whole or not at all, and the next start
    finishes it, with every run still there."""
    ward, names = make_ward(), [one.name for one in schema.MIGRATIONS._migrations]
    kills = list(takewhile(bool, (cut_short(ward.database, statement) for statement in range(0, MOST_STATEMENTS, 3))))
    assert kills
    for there in kills:
        assert there == names[: len(there)]
    assert min(map(len, kills)) < len(names)
    ward.program.start()
    assert applied(ward.database) == names
    assert [one["id"] for one in ward.program.get("/api/runs")["runs"]] == ["old"]
    row = Row("migration killed half-way", "migration atomic", recovery=0.0, note=f"{len(kills)} kills")
    row.count(audit(ward.database, "old", {}))
    enter(row)


def cut_short(database: Path, statement: int) -> list[str]:
    """Migrate a database of the first version, and die before a statement; the migrations that were applied. None where
    there are fewer statements."""
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    before(database)
    command = [sys.executable, "-c", OPEN, f"migrating={statement}", str(database)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=300, cwd=SUPPORT)
    if done.returncode == 0:
        return []
    assert done.returncode == -signal.SIGKILL, done.stderr
    return applied(database)
