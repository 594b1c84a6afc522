"""A disk that is full, a file that is read-only, a page that is damaged: one clear line, and nothing else is lost."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from itertools import chain
from pathlib import Path

import pytest

from kept import contents, tell
from served import Served, frame, layout, until
from trainvitals import wire
from trainvitals_server import compactor
from trainvitals_server.cli import main
from trainvitals_server.errors import StoreBusyError
from trainvitals_server.store import backup, checking, compaction
from trainvitals_server.store.backup import back_up
from trainvitals_server.store.database import Database, open_reading
from trainvitals_server.store.transactions import transaction


def no_progress(done: int, total: int) -> None:
    """Nobody watches."""


def damage(path: Path, table: str) -> None:
    """Flip bytes in the first page of a table, with everything in the file and nothing in the log."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0]
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        before = file.read(64)
        file.seek((page - 1) * size)
        file.write(bytes(byte ^ 0xFF for byte in before))


def test_a_full_disk_is_told_and_heals(served: Served) -> None:
    """The trainer is told to come again, /readyz says why, readers go on; with room again everything arrives."""
    parts = served.service.parts
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(("", wire.RUN, wire.LOSS)), frame(0, [1.0]))
        pages = parts.writer.submit(lambda tx: tx.connection.execute("PRAGMA page_count").fetchone()[0]).result(10)
        parts.writer.submit(lambda tx: tx.connection.execute(f"PRAGMA max_page_count = {pages}").fetchall()).result(10)
        big = [wire.Checkpoint(step=1, time=1e6, outcome="saved", path="x" * 5000) for _ in range(40)]
        trainer.send(*big)
        nack = trainer.hear(wire.Nack)
        assert (nack.kind, "disk is full" in nack.reason) == ("retry", True)
        answer = served.ask("GET", "/readyz", None)
        assert (answer.status_code, "disk is full" in answer.json()["detail"]) == (503, True)
        assert served.get("/api/runs/run-1")["step"] == 0
        roomy = parts.writer.submit(lambda tx: tx.connection.execute("PRAGMA max_page_count = 1000000").fetchall())
        roomy.result(10)
        trainer.send(*big, first=nack.seq)
        trainer.hear(wire.Ack)
        assert served.get("/api/runs/run-1")["counts"]["events"] == 40
        assert served.ask("GET", "/readyz", None).status_code == 200


FULL = """
import resource, signal, sys
from trainvitals_server.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("verb", ["backup", "export", "import"])
def test_a_disk_that_fills_while_a_file_is_written_leaves_nothing(verb: str, tmp_path: Path) -> None:
    """No half backup, export or run; one line says why."""
    with Served(tmp_path / "home") as served:
        tell(served, "r1", frames=200)
    source = tmp_path / "home" / "trainvitals.db"
    out = tmp_path / "out"
    out.mkdir()
    options = ["--directory", str(tmp_path / "home")]
    if verb == "import":
        made = [sys.executable, "-m", "trainvitals_server.cli", "export", "r1", str(tmp_path / "r1.db"), *options]
        subprocess.run(made, check=True, capture_output=True, timeout=300)
        options = ["--directory", str(out)]
    words = {"backup": [out / "b.db"], "export": ["r1", out / "r1.db"], "import": [tmp_path / "r1.db"]}[verb]
    command = [sys.executable, "-c", FULL, verb, *map(str, words), *options]
    # counting lines writes a file too, and would add a word of its own
    environment = {name: value for name, value in os.environ.items() if name != "COVERAGE_PROCESS_CONFIG"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert [one.name for one in out.iterdir() if one.stat().st_size and one.suffix == ".db"] in ([], ["trainvitals.db"])
    if (out / "trainvitals.db").exists():
        with closing(sqlite3.connect(out / "trainvitals.db")) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
            assert "runs" not in tables or connection.execute("SELECT count(*) FROM runs").fetchone()[0] == 0
    contents(source, "r1")


@pytest.mark.skipif(os.geteuid() == 0, reason="to root no file is read-only")
def test_a_read_only_file_is_told_in_one_line(tmp_path: Path) -> None:
    """Before anything listens."""
    path = tmp_path / "a.db"
    Database(path).close()
    path.chmod(0o400)
    with pytest.raises(StoreBusyError, match="cannot be opened: attempt to write a readonly database"):
        Database(path)


def test_a_database_that_may_only_be_read_loses_nothing(tmp_path: Path) -> None:
    """The transaction is refused as a whole, in words; what was there is read as before."""
    database = Database(tmp_path / "a.db")
    with closing(database.writer()) as connection:
        connection.execute("PRAGMA query_only = ON")
        said = "cannot be written: attempt to write a readonly"
        with pytest.raises(StoreBusyError, match=said), transaction(connection):
            connection.execute("DELETE FROM sessions")
    database.close()


def test_a_damaged_table_of_points_is_told_and_the_rest_goes_on(private_home: Path) -> None:
    """Ingest answers retry and /readyz says so; a read names run and series; events and lists are there."""
    with Served(private_home) as served:
        tell(served, "r1")
        tell(served, "r2")
    path = private_home / "trainvitals.db"
    damage(path, "frames")
    with Served(private_home) as served:
        listed = {run["id"]: run["verdict"]["text"] for run in served.get("/api/runs")["runs"]}
        assert listed.keys() == {"r1", "r2"}
        assert "its records cannot be read (database disk image is malformed)" in listed["r1"]
        answer = served.ask("GET", "/api/runs/r1/data?series=1")
        assert answer.status_code == 500
        assert answer.json()["detail"].startswith("run r1, series 1 cannot be read: database disk image is malformed")
        assert [one["type"] for one in served.get("/api/runs/r1/events")["events"]][:1] == ["nonfinite"]
        with served.trainer("r3") as trainer:
            trainer.hello()
            trainer.send(layout(("", wire.RUN, wire.LOSS)), frame(0, [1.0]))
            nack = trainer.hear(wire.Nack)
            assert (nack.kind, "malformed" in nack.reason) == ("retry", True)
            assert "malformed" in until(lambda: served.ask("GET", "/readyz", None).json().get("detail"))
    found = checking.check(path, no_progress)
    assert any(problem.startswith("database: ") for problem in found.problems)
    assert "run r1: where its points are cannot be read: database disk image is malformed" in found.problems


@pytest.mark.parametrize("place", [0, 8, 20, -5])
def test_a_chunk_with_a_flipped_byte_spoils_its_own_series_only(
    tmp_path: Path, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those beside it are read, and `check` names it, with the steps: wrong values are never shown as right ones."""
    monkeypatch.setattr(compactor, "IDLE_PAUSES", 1)  # so few frames are compacted at a look for idle layouts only
    with Served(tmp_path / "home") as served:
        tell(served, "r1", frames=400)
        database = served.service.settings.database
        until(lambda: count(database, "spans") > 0)
    with closing(sqlite3.connect(database)) as connection, connection:
        row = connection.execute('SELECT id, "values" FROM chunks LIMIT 1').fetchone()
        spoiled = bytearray(row[1])
        spoiled[place] ^= 0x10
        connection.execute('UPDATE chunks SET "values" = ? WHERE id = ?', (bytes(spoiled), row[0]))
    found = checking.check(database, no_progress)
    assert found.problems
    assert all(" cannot be read in steps 0 to " in problem for problem in found.problems)


def flip(path: Path, table: str, blob: str, where: str) -> None:
    """Flip one bit in the middle of a blob of one row."""
    with closing(sqlite3.connect(path)) as connection, connection:
        identity, before = connection.execute(f'SELECT id, "{blob}" FROM {table} WHERE {where}').fetchone()  # noqa: S608
        spoiled = bytearray(before)
        spoiled[len(spoiled) // 2] ^= 1
        connection.execute(f'UPDATE {table} SET "{blob}" = ? WHERE id = ?', (bytes(spoiled), identity))  # noqa: S608


def steps_of(served: Served, low: int, high: int) -> list[int]:
    """Where the first series has a value, one by one."""
    data = served.get("/api/runs/r1/data", series="1", points="4000", **{"from": str(low), "to": str(high)})
    steps: list[int] = data["series"][0]["step"]
    return steps


def compact(path: Path) -> None:
    """Everything of the first layout."""
    with closing(Database(path).writer()) as connection:
        while plan := compaction.plan(connection, 1, idle=True):
            for job in chain.from_iterable(plan):
                with transaction(connection):
                    job(connection)


@pytest.mark.parametrize("blob", ["steps", "times", "values", "present"])
def test_a_bit_that_flips_in_a_hot_frame_is_told_and_never_read_as_data(
    blob: str, private_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not by the page, `query`, `check`, or compaction; what comes afterwards is stored, and other steps are read."""
    with Served(private_home) as served:
        tell(served, "r1", state="")
    path = private_home / "trainvitals.db"
    flip(path, "frames", blob, "first_step = 0")
    found = checking.check(path, no_progress).problems
    assert found
    assert any("damaged on the disk: expected checksum" in problem for problem in found)
    assert main(["query", "r1", "--sql", "select sum(value) from points"]) == 1
    err = capsys.readouterr().err
    assert (len(err.splitlines()), "damaged on the disk" in err) == (1, True)
    with Served(private_home) as served:
        answer = served.ask("GET", "/api/runs/r1/data?series=1")
        assert (answer.status_code, "damaged on the disk" in answer.json()["detail"]) == (500, True)
        assert served.ask("GET", "/api/runs/r1/at?step=3").status_code == 500
        assert steps_of(served, 30, 60) == list(range(30, 61))
        with served.trainer("r1", "r1-p0", started=1.0) as trainer:
            trainer.hello()
            for low in range(100, 2000, 100):
                trainer.store(*(frame(step, [1.0, 0.0, 2.0]) for step in range(low, low + 100)))
        assert steps_of(served, 1900, 1999) == list(range(1900, 2000))
    with pytest.raises(ValueError, match="damaged on the disk"):
        compact(path)
    copy = tmp_path / "copy.db"
    assert main(["export", "r1", str(copy)]) == 0
    assert main(["import", str(copy), "--directory", str(tmp_path / "other")]) == 1
    assert "and nothing was changed: its table frames: " in capsys.readouterr().err


@pytest.mark.parametrize("blob", ["shape", "edges", "odd"])
def test_a_bit_that_flips_in_a_fresh_bucket_is_told_and_never_read_as_data(blob: str, private_home: Path) -> None:
    """The frames that it was made of can still be read one by one."""
    with Served(private_home) as served:
        tell(served, "r1", state="")
    path = private_home / "trainvitals.db"
    flip(path, "fresh_buckets", blob, "odd IS NOT NULL")
    assert any("damaged on the disk" in problem for problem in checking.check(path, no_progress).problems)
    with Served(private_home) as served:
        answer = served.ask("GET", "/api/runs/r1/data?series=1&points=2")
        assert (answer.status_code, "damaged on the disk" in answer.json()["detail"]) == (500, True)
        assert steps_of(served, 10, 20) == list(range(10, 21))


SPOILED = {
    "buckets": "UPDATE fresh_buckets SET odd = x'00' WHERE odd IS NOT NULL",
    "layout": "UPDATE layouts SET declared = x'00'",
    "event": "UPDATE events SET record = x'c1' WHERE id = (SELECT max(id) FROM events)",
}
NEWEST = {"buckets": "layout = (SELECT max(id) FROM layouts)", "event": "run = 'r1'"}  # of the run told last


@pytest.mark.parametrize("what", ["buckets", "event"])
def test_a_run_whose_rows_are_spoiled_is_told_and_the_list_goes_on(private_home: Path, what: str) -> None:
    """The other runs are as they were; what cannot be read of this one is said in one line."""
    with Served(private_home) as served:
        tell(served, "r2")
        tell(served, "r1", frames=100)
    with closing(sqlite3.connect(private_home / "trainvitals.db")) as connection, connection:
        connection.execute("UPDATE frames SET n = n + 1 WHERE layout = (SELECT max(id) FROM layouts)")
        connection.execute(SPOILED[what] + " AND " + NEWEST[what])
    with Served(private_home) as served:
        listed = {run["id"]: run["verdict"]["text"] for run in served.get("/api/runs")["runs"]}
        assert "its records cannot be read" in listed["r1"]
        assert "cannot be read" not in listed["r2"]
        path = {"buckets": "data?series=4&points=2", "event": "events"}[what]
        answer = served.ask("GET", f"/api/runs/r1/{path}")
        assert (answer.status_code, "cannot be read: " in answer.json()["detail"]) == (500, True)


@pytest.mark.parametrize("what", sorted(SPOILED))
def test_what_is_spoiled_is_told_in_one_line_and_the_run_can_be_carried_away(
    private_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """`check` finds it, buckets too; `query` answers or says why not; `export` copies everything as it is."""
    with Served(private_home) as served:
        tell(served, "r1", frames=100)
    path, copy = private_home / "trainvitals.db", tmp_path / "r1.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(SPOILED[what]).rowcount > 0
    found = checking.check(path, no_progress)
    assert found.problems
    assert all(problem.startswith("run r1: ") and " cannot be read" in problem for problem in found.problems)
    assert main(["query", "r1", "--sql", "select count(*) from points"]) == (0 if what == "buckets" else 1)
    err = capsys.readouterr().err
    assert len(err.splitlines()) == (0 if what == "buckets" else 1)
    assert main(["export", "r1", str(copy)]) == 0
    assert capsys.readouterr().err == ""
    assert count(copy, "frames") + count(copy, "spans") > 0
    assert checking.check(copy, no_progress).problems


def count(path: Path, table: str) -> int:
    with closing(open_reading(path)) as connection:
        rows: int = connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
        return rows


def test_a_sound_database_has_nothing_to_tell(tmp_path: Path) -> None:
    """Every run was looked at."""
    with Served(tmp_path / "home") as served:
        tell(served, "r1")
        tell(served, "r2")
    assert checking.check(tmp_path / "home" / "trainvitals.db", no_progress) == checking.Found(2, [])


def test_a_backup_is_one_moment_while_trainers_go_on(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is committed after it began is not in it, it does not begin again, and no commit waits for it."""
    monkeypatch.setattr(backup, "STEP_PAGES", 4)
    tell(served, "r1", frames=300)
    path = served.service.settings.database
    before = contents(path, "r1")
    steps: list[int] = []
    with served.trainer("r2") as trainer:
        trainer.hello()
        trainer.store(layout(("", wire.RUN, wire.LOSS)))

        def commit(done: int, total: int) -> None:
            trainer.store(frame(len(steps), [1.0]))
            steps.append(done)

        back_up(path, tmp_path / "copy.db", commit)
    assert len(steps) > 10
    assert steps == sorted(steps)
    assert contents(tmp_path / "copy.db", "r1") == before
    assert contents(tmp_path / "copy.db", "r2")["points"] == {}
    assert checking.check(tmp_path / "copy.db", no_progress) == checking.Found(2, [])
    assert len(contents(path, "r2")["points"]) == len(steps)
    with Served(tmp_path / "other", db=tmp_path / "copy.db") as other:
        assert {run["id"] for run in other.get("/api/runs")["runs"]} == {"r1", "r2"}
    with pytest.raises(FileExistsError):
        back_up(path, tmp_path / "copy.db", no_progress)
