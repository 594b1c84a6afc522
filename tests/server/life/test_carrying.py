"""A run in one file: carried away, opened, taken in elsewhere; and files that are not what they say they are."""

import asyncio
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard

from kept import contents, tell
from served import Served, close_of, until
from trainvitals import wire
from trainvitals.home import Role
from trainvitals_server.errors import FileRefusedError, NewerSchemaError
from trainvitals_server.life import carrying, deleting, importing
from trainvitals_server.life.importing import import_alone
from trainvitals_server.store import deletion, schema
from trainvitals_server.store.database import Database, open_reading
from trainvitals_server.store.entering import Entry
from trainvitals_server.store.parcel import write_parcel
from trainvitals_server.store.stranger import Stranger
from trainvitals_server.store.transactions import transaction

Spoil = Callable[[sqlite3.Connection], Any]


def no_progress(done: int, total: int) -> None:
    """Nobody watches."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A database with two runs, one of which went through two producers, and the file of that one."""
    folder = tmp_path_factory.mktemp("carried")
    with Served(folder / "home") as served:
        tell(served, "r1", frames=400)
        tell(served, "r1", frames=100, start=300, state="failed")
        tell(served, "r2", frames=10)
    source = folder / "home" / "trainvitals.db"
    write_parcel(source, "r1", folder / "r1.db", no_progress)
    return source, folder / "r1.db"


@pytest.fixture
def file(made: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the file, to be spoiled."""
    path = tmp_path / "r1.db"
    path.write_bytes(made[1].read_bytes())
    return path


def ids(path: Path) -> set[str]:
    with closing(open_reading(path)) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM runs")}


def test_the_file_holds_that_run_and_nothing_of_the_servers(made: tuple[Path, Path]) -> None:
    """Private, whole, compressed, without audit, sessions, other runs, or traces of them."""
    source, file = made
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert ids(file) == {"r1"}
    with closing(open_reading(file)) as connection:
        for table in ("audit", "sessions", "notifications", "rule_states", "deleted_runs"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0  # noqa: S608
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("SELECT count(*) FROM spans").fetchone()[0] > 0
    assert b"r2" not in file.read_bytes()
    assert contents(file, "r1") == contents(source, "r1")


def test_a_file_is_never_written_over_and_no_half_one_is_left(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Nor is one made of a run that is not there."""
    source, file = made
    with pytest.raises(FileExistsError, match="not there yet"):
        write_parcel(source, "r1", file, no_progress)
    with pytest.raises(FileRefusedError, match="expected the id of a run"):
        write_parcel(source, "r3", tmp_path / "r3.db", no_progress)
    assert list(tmp_path.glob("*.db*")) == []


def test_an_import_gives_the_same_run_again(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Among others, with other row ids; it says how it ended; the audit knows."""
    source, file = made
    here = tmp_path / "here.db"
    write_parcel(source, "r2", tmp_path / "r2.db", no_progress)
    for path in (tmp_path / "r2.db", file):
        import_alone(here, path, 5e8, no_progress)
    assert contents(here, "r1") == contents(source, "r1")
    with closing(open_reading(here)) as connection:
        row = connection.execute("SELECT state, outcome, imported, hidden FROM runs WHERE id = 'r1'").fetchone()
        assert tuple(row) == ("imported", "failed", 5e8, "")
        rows = connection.execute("SELECT action, run, outcome FROM audit").fetchall()
        assert [tuple(row) for row in rows] == [("import", "r2", "imported"), ("import", "r1", "imported")]
    write_parcel(here, "r1", tmp_path / "again.db", no_progress)
    assert contents(tmp_path / "again.db", "r1") == contents(source, "r1")


def test_a_run_that_is_there_is_refused_and_left_alone(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Every byte of what can be read of it."""
    here = tmp_path / "here.db"
    import_alone(here, made[1], 1.0, no_progress)
    before = contents(here, "r1")
    with pytest.raises(FileRefusedError, match="is there already; nothing was changed"):
        import_alone(here, made[1], 2.0, no_progress)
    assert contents(here, "r1") == before


def test_a_run_that_is_being_removed_is_not_said_to_be_there(made: tuple[Path, Path], tmp_path: Path) -> None:
    """Nobody can see it any more, so the reason is another."""
    here = tmp_path / "here.db"
    import_alone(here, made[1], 1.0, no_progress)
    with closing(Database(here).writer()) as connection, transaction(connection):
        deletion.hide(connection, "r1", 2.0, "asked by a test")
        with pytest.raises(FileRefusedError, match="still being removed; import it again once it is gone"):
            Entry("r1").take(connection, [("runs", {"id": "r1"})])


def test_over_http_to_a_second_server(made: tuple[Path, Path], private_home: Path) -> None:
    """Export for readers, import for who may act; refused twice; a run that was deleted may come back this way."""
    file = made[1].read_bytes()
    with Served(private_home) as second:
        statuses: dict[Role | None, int] = {None: 401, "view": 403, "ingest": 403}
        for role, status in statuses.items():
            assert second.ask("POST", "/api/import", role, content=b"x").status_code == status
        assert second.ask("POST", "/api/import", "control", content=file).json() == {"run": "r1"}
        assert second.ask("POST", "/api/import", "control", content=file).status_code == 409
        shown = second.get("/api/runs/r1")
        assert (shown["state"], shown["outcome"]) == ("imported", "failed")
        assert "failed at step" in shown["verdict"]["text"]
        for role, status in {None: 401, "ingest": 403}.items():
            assert second.ask("GET", "/api/runs/r1/export", role).status_code == status
        answer = second.ask("GET", "/api/runs/r1/export", "view")
        assert answer.headers["content-length"] == str(len(answer.content))
        assert second.ask("GET", "/api/runs/r9/export", "view").status_code == 404
        (private_home / "copy.db").write_bytes(answer.content)
        assert contents(private_home / "copy.db", "r1") == contents(made[0], "r1")
        assert second.ask("DELETE", "/api/runs/r1", "control").status_code == 202
        until(lambda: second.get("/api/storage")["being_deleted"] == 0)
        assert second.ask("POST", "/api/import", "control", content=file).status_code == 201
        assert second.get("/api/storage")["deleted"] == []
        refused = second.ask("POST", "/api/import", "control", content=b"no database" * 1000)
        assert refused.status_code == 422
        assert str(private_home) not in refused.text
        assert list(private_home.glob("carry-*")) == []


def test_an_import_that_was_killed_half_way_is_gone_at_the_next_start(
    made: tuple[Path, Path], private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it can be done again."""
    private_home.mkdir()
    here = private_home / "trainvitals.db"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing, "BATCH_BYTES", 500)
    monkeypatch.setattr(importing, "_clear", lambda connection: None)
    monkeypatch.setattr(deletion, "sweep", killed)
    count = iter(range(4))

    def stop(done: int, total: int) -> None:
        if next(count) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_alone(here, made[1], 1.0, stop)
    assert ids(here) == {"r1"}
    monkeypatch.undo()
    monkeypatch.setenv("TRAINVITALS_DIR", str(private_home))
    with Served(private_home) as served:
        assert served.get("/api/runs")["runs"] == []
        until(lambda: ids(here) == set())
        assert served.ask("POST", "/api/import", "control", content=made[1].read_bytes()).status_code == 201
    assert contents(here, "r1") == contents(made[0], "r1")


def test_one_file_at_a_time_and_none_without_room(
    made: tuple[Path, Path], served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is the trainers' first."""
    parts = served.service.parts
    asyncio.run_coroutine_threadsafe(parts.carrying.acquire(), parts.loop).result(10)
    for method, path in (("POST", "/api/import"), ("GET", "/api/runs/r1/export")):
        tell(served, "r1", frames=1) if method == "GET" else None
        answer = served.ask(method, path, "control", content=b"x" if method == "POST" else None)
        assert (answer.status_code, "one export or import at a time" in answer.text) == (429, True)
    parts.loop.call_soon_threadsafe(parts.carrying.release)
    until(lambda: not parts.carrying.locked())
    monkeypatch.setattr(carrying, "SPARE_BYTES", 1 << 60)
    answer = served.ask("POST", "/api/import", "control", content=made[1].read_bytes())
    assert (answer.status_code, "the disk's room" in answer.json()["detail"]) == (413, True)


# hostile files


def run_of(sql: str, *values: object) -> Spoil:
    return lambda connection: connection.execute(sql, values)


def swap_schema(old: str, new: str) -> Spoil:
    def spoil(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE name = 'runs'", (old, new))

    return spoil


BOMB = zstandard.ZstdCompressor().compress(bytes(1 << 20))
DEEP = b"\x91" * 100_000 + b"\xc0"

SPOILED: dict[str, tuple[Spoil, str]] = {
    "another run's rows": (run_of("UPDATE events SET run = 'r2'"), "expected run 'r1'"),
    "an id that is a path": (run_of("UPDATE runs SET id = '../../etc/passwd'"), "expected"),
    "a text where a number belongs": (run_of("UPDATE producers SET rank = 'first'"), "expected INTEGER in producers"),
    "an infinite time": (run_of("UPDATE runs SET created = 9e999"), "expected REAL in runs.created"),
    "a time beyond the calendar": (run_of("UPDATE events SET time = 1e15"), "expected a time"),
    "a state that is none": (run_of("UPDATE runs SET state = 'haunted'"), "expected a state"),
    "no MessagePack": (run_of("UPDATE runs SET config = x'c1'"), "runs"),
    "a million nested arrays": (run_of("UPDATE runs SET config = ?", DEEP), "runs"),
    "a name of a megabyte": (run_of("UPDATE series SET layer = ?", "x" * (1 << 20)), "at most 10000 characters"),
    "series of another run": (run_of("UPDATE layouts SET columns = zeroblob(8 * total)"), "the file's own series"),
    "columns that lie": (run_of("UPDATE layouts SET total = total + 1"), "bytes of columns"),
    "a layout of nobody": (run_of("UPDATE layouts SET producer = 77 WHERE id = 2"), "row 77 of producers"),
    "frames that lie": (run_of("UPDATE spans SET n = n + 1"), "bytes packed"),
    "a bomb": (run_of('UPDATE chunks SET "values" = ?', BOMB), "bytes packed"),
    "a broken chunk": (run_of('UPDATE chunks SET "values" = substr("values", 1, 20)'), "zstd frame"),
    "columns out of range": (run_of("UPDATE blocks SET columns = x'ffffff7f'"), "expected columns of"),
    "buckets that lie": (run_of("UPDATE fresh_buckets SET edges = x'00'"), "bytes"),
    "an event that is another": (run_of("UPDATE events SET type = 'origin' WHERE type = 'nonfinite'"), "expected type"),
    "a frame as an event": (run_of("UPDATE events SET record = x'81a174a56672616d65'"), "events"),
    "an alert that is another": (run_of("UPDATE alerts SET rule = 'x'"), "expected one alert"),
    "no schema": (run_of("DELETE FROM _sqlite_migrations"), "no schema at all"),
    "two runs": (
        run_of("INSERT INTO runs SELECT 'r9', name, project, config, versions, allow, auto_sanitize, state, reason,"
               " altered, created, last_seen, ended, pinned, hidden, imported, outcome FROM runs"),
        "expected one run in it",
    ),
    "a table of another kind": (swap_schema("reason TEXT", "reason BLOB"), "expected table runs as version"),
    "a column that computes": (
        swap_schema("ended REAL", "ended REAL, evil AS (randomblob(1000000000))"),
        "malformed database schema|expected table runs",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_a_file_that_lies_is_refused_and_leaves_nothing(name: str, file: Path, tmp_path: Path) -> None:
    """In one line that says what was expected, or what cannot be read."""
    spoil, reason = SPOILED[name]
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        spoil(connection)
    here = tmp_path / "here.db"
    with pytest.raises((FileRefusedError, NewerSchemaError), match=reason) as caught:
        import_alone(here, file, 1.0, no_progress)
    assert len(str(caught.value).splitlines()) == 1
    assert ids(here) == set()


def test_triggers_and_views_of_a_file_are_never_looked_at(file: Path, tmp_path: Path) -> None:
    """Nor are its own tables: the run arrives without them."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE evil (x)")
        connection.execute("CREATE TRIGGER bite AFTER INSERT ON runs BEGIN INSERT INTO evil VALUES (1); END")
        connection.execute("DROP VIEW v_runs")
        connection.execute("CREATE VIEW v_runs AS SELECT load_extension('evil')")
    import_alone(tmp_path / "here.db", file, 1.0, no_progress)
    with closing(open_reading(tmp_path / "here.db")) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        assert not names & {"evil", "bite"}
        assert connection.execute("SELECT id FROM v_runs").fetchone()[0] == "r1"


def test_commands_under_way_elsewhere_are_not_carried_out_here(file: Path, tmp_path: Path) -> None:
    """They come as unknown."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO commands (id, run, producer, action, layers, dry_run, key, state, result, requested, expires,"
            " role) VALUES ('c', 'r1', 'r1-p300', 'sanitize', x'c0', 0, 'k', 'requested', x'c0', 1.0, 1e11, 'control')"
        )
    import_alone(tmp_path / "here.db", file, 1.0, no_progress)
    with closing(open_reading(tmp_path / "here.db")) as connection:
        assert connection.execute("SELECT state FROM commands").fetchone()[0] == "unknown"


def test_a_file_of_a_newer_program_is_named_with_both_versions(file: Path, tmp_path: Path) -> None:
    """And nothing is changed."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('trainvitals', 'thirtieth')")
    with pytest.raises(NewerSchemaError, match=f"'thirtieth'.*up to '{schema.known()[-1]}'; nothing was changed"):
        import_alone(tmp_path / "here.db", file, 1.0, no_progress)


def test_a_database_in_use_is_no_file_of_a_run(file: Path, tmp_path: Path) -> None:
    """What is in its log would be missed."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE runs SET reason = 'in the log'")
        with pytest.raises(FileRefusedError, match="got a database in use"):
            import_alone(tmp_path / "here.db", file, 1.0, no_progress)


def test_a_run_on_its_way_in_is_not_there_for_anybody(
    made: tuple[Path, Path], private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No list, no alert, no page tells of it, and its trainer is told to come later."""
    private_home.mkdir()
    here = private_home / "trainvitals.db"
    with closing(Database(here).writer()) as connection, closing(Stranger(made[1])) as source:
        entry = Entry("r1")
        for batch in importing.read(source):
            with transaction(connection):
                entry.take(connection, batch)
    monkeypatch.setattr(deleting, "remove_hidden", nothing)
    with Served(private_home) as served:
        assert served.get("/api/runs")["runs"] == []
        assert served.get("/api/alerts")["alerts"] == []
        for path in ("", "/events", "/series", "/export", "/data?series=1", "/at?step=1", "/incidents", "/commands"):
            assert served.ask("GET", f"/api/runs/r1{path}").status_code == 404, path
        with served.trainer("r1") as trainer:
            trainer.say(wire.Hello(protocol=wire.PROTOCOL, identity=trainer.identity, first=0, next=1))
            assert "is importing" in close_of(trainer.socket)[1]


async def nothing(_: object) -> None:
    """Leave what is hidden as it is."""


@pytest.mark.parametrize("size", [0, 10, 100, 5000, 40_000])
def test_a_torn_file_is_refused(file: Path, tmp_path: Path, size: int) -> None:
    """Wherever it was cut."""
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(FileRefusedError):
        import_alone(tmp_path / "here.db", file, 1.0, no_progress)
    assert ids(tmp_path / "here.db") == set()


def test_flipped_bytes_anywhere_never_crash_it(file: Path, tmp_path: Path) -> None:
    """The import refuses the file and leaves nothing, or takes in a run that can be read."""
    whole = file.read_bytes()
    Database(tmp_path / "here.db").close()
    for place in range(64, len(whole), len(whole) // 60):
        torn = bytearray(whole)
        torn[place : place + 8] = b"\xff" * 8
        file.write_bytes(torn)
        (tmp_path / f"{place}.db").write_bytes((tmp_path / "here.db").read_bytes())
        with suppress(FileRefusedError, NewerSchemaError):
            import_alone(tmp_path / f"{place}.db", file, 1.0, no_progress)
        for run in ids(tmp_path / f"{place}.db"):
            contents(tmp_path / f"{place}.db", run)
