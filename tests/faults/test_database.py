"""Other programs at the server's database."""

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from child import child
from served import Speaker, frame, layout, until
from speech import speaking
from trainvitals import wire
from ward import Ward

Enter = Callable[..., None]
MIB = 1 << 20
HIGH, MOST = 2 * MIB, 6 * MIB
COLUMNS, BATCH = 4000, 10
LOAD = 30.0  # seconds
LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""
READ = LOCK.replace('"BEGIN IMMEDIATE"', '"BEGIN"').replace(
    'print("', 'connection.execute("SELECT * FROM runs").fetchall(); print("'
)


@contextmanager
def another_process(database: Path, what: str) -> Iterator[None]:
    """A program that has the database open in this way, until the end of the block."""
    command = [sys.executable, "-c", what, str(database)]
    with child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "locked\n"
        yield


@pytest.mark.parametrize("seconds", [3.0, pytest.param(30.0, marks=pytest.mark.chaos)])
def test_a_database_that_another_process_locks(running: Ward, enter: Enter, seconds: float) -> None:
    """The server asks for patience; nothing is dropped."""
    name = f"database locked by another process for {seconds:g} s"
    with (
        running.fault(name, "`nack retry`, nothing dropped") as row,
        another_process(running.database, LOCK),
    ):
        running.training.go_on(0.5)
        before = running.committed()
        running.training.go_on(seconds - 0.5)
        assert running.committed() == before
    enter(row)


def test_a_reader_that_never_ends(make_ward: Callable[..., Ward], enter: Enter) -> None:
    """The log grows up to its bound, which is 6 MiB here; then everybody is asked to come again, and told why. When the
    reader has gone, the log is emptied and nothing is missing."""
    ward = make_ward(plants=(f"log={HIGH}:{MOST}",))
    ward.program.start()
    ward.train().under_way()
    with ward.fault("a foreign reader open, log of at most 6 MiB", "WAL bounded, then `nack retry`") as row:
        with another_process(ward.database, READ), speaking(ward.program, "wide") as trainer:
            declare(trainer)
            grown = until_refused(ward, trainer)
            ward.training.go_on(1.0)
            assert "another process" in ready(ward)["detail"]
        until(lambda: ready(ward) == {"status": "ready"}, 20)
    row.note = f"WAL {grown / MIB:.1f} MiB at most, {log_size(ward.database) / MIB:.1f} MiB afterwards"
    enter(row)
    assert grown < MOST + 2 * MIB


@pytest.mark.chaos
def test_the_log_under_load(ward: Ward, enter: Enter) -> None:
    """With our own readers alone, which end in time, it stays within 64 MiB."""
    ward.train().under_way()
    with ward.fault("WAL under load, with readers of our own", "WAL ≤ 64 MiB") as row:
        most, begin = 0, time.monotonic()
        with speaking(ward.program, "wide") as trainer:
            declare(trainer)
            some = ",".join(str(one["id"]) for one in ward.program.get("/api/runs/wide/series")["series"][:3])
            for step in itertools.count(0, BATCH):
                trainer.store(*[frame(step + n, [1.0] * COLUMNS) for n in range(BATCH)])
                most = max(most, log_size(ward.database))
                if step % (20 * BATCH) == 0:
                    ward.program.get(f"/api/runs/wide/data?series={some}&points=500")
                if time.monotonic() - begin > LOAD:
                    break
    row.note = f"WAL {most / MIB:.1f} MiB at most, {step * COLUMNS * 4 / MIB:.0f} MiB of values taken in"
    enter(row)
    assert most < 64 * MIB


def declare(trainer: Speaker) -> None:
    """Wide frames follow."""
    trainer.hello()
    series = layout(*[(f"p.{place}", wire.PARAMETER, wire.GRAD_NORM) for place in range(COLUMNS)]).series
    for start in range(0, COLUMNS, 500):
        trainer.store(wire.Layout(id=1, offset=start, total=COLUMNS, series=series[start : start + 500]))


def until_refused(ward: Ward, trainer: Speaker) -> int:
    """Send frames until the server asks to come again; how large its log became."""
    for step in range(0, 20_000, BATCH):
        trainer.send(*[frame(step + n, [1.0] * COLUMNS) for n in range(BATCH)])
        answer = trainer.hear(wire.Message)
        if isinstance(answer, wire.Nack):
            assert answer.kind == "retry", answer
            return log_size(ward.database)
    raise AssertionError(f"expected a bound of the log, it has {log_size(ward.database)} bytes")


def ready(ward: Ward) -> dict[str, str]:
    """What `/readyz` says."""
    found: dict[str, str] = httpx.get(f"{ward.program.url}/readyz", timeout=5).json()
    return found


def log_size(database: Path) -> int:
    """Bytes of the write-ahead log."""
    return database.with_name(database.name + "-wal").stat().st_size
