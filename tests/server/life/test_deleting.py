"""Deleting a run: gone at once, removed in small steps, gone on with after a kill, never brought back by a trainer."""

import sqlite3
from contextlib import closing
from pathlib import Path

import httpx
import numpy as np
import pytest

from kept import contents
from program import Program
from served import Served, close_of, frame, identify, layout, until
from trainvitals import home, wire
from trainvitals_server.ingest.session import POLICY
from trainvitals_server.store import deletion, frames, possessions, runs, series
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import transaction


def fill(served: Served, run: str, frames: int = 50) -> None:
    with served.trainer(run) as trainer:
        trainer.hello()
        bad = wire.NonFinite(step=3, time=1e6, layer="a", signal="running_statistics", kind="inf", count=1, total=4)
        series = [("a", wire.NORM, wire.NONFINITE_CHANNELS), ("", wire.RUN, wire.LOSS)]
        trainer.store(layout(*series), *(frame(step, [float(step > 2), 1.0]) for step in range(frames)), bad)
        trainer.send(b"\xc1 nonsense", wire.Lifecycle(step=frames, time=1e6, state="finished"))
        assert trainer.hear(wire.Nack).kind == "permanent"
        trainer.hear(wire.Ack)


def rows_of(connection: sqlite3.Connection, table: possessions.Table, run: str) -> int:
    sql = f"SELECT count(*) FROM {table.name} WHERE {table.owned}"  # noqa: S608  # names of the schema
    count: int = connection.execute(sql, (run,)).fetchone()[0]
    return count


def left(path: Path, run: str) -> dict[str, int]:
    """Rows of a run, by table, where there are any."""
    with closing(sqlite3.connect(path)) as connection:
        counted = {table.name: rows_of(connection, table, run) for table in possessions.TABLES}
    return {name: count for name, count in counted.items() if count}


def test_every_table_of_the_schema_is_somebodys(tmp_path: Path) -> None:
    """A migration that adds a table must say whether it goes with a run."""
    with closing(Database(tmp_path / "a.db").writer()) as connection:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names == {table.name for table in possessions.TABLES} | set(possessions.SHARED)


def test_nothing_is_left_of_a_deleted_run_and_all_of_the_others(served: Served) -> None:
    """The audit stays, and says so."""
    path = served.service.settings.database
    for run in ("gone", "kept"):
        fill(served, run)
    before = left(path, "kept")
    assert before.keys() >= {"events", "alerts", "layouts", "series", "producers", "runs", "quarantine", "rule_states"}
    assert served.ask("DELETE", "/api/runs/gone", "control").status_code == 202
    answer = served.ask("GET", "/api/runs/gone")
    assert answer.status_code == 404
    assert "was deleted on 20" in answer.json()["detail"]
    until(lambda: not left(path, "gone"))
    assert left(path, "kept") == before
    assert [run["id"] for run in served.get("/api/runs")["runs"]] == ["kept"]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT action, run, outcome FROM audit").fetchall() == [
            ("delete", "gone", "deleted")
        ]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_live_run_is_refused_unless_forced_and_its_trainer_does_not_bring_it_back(served: Served) -> None:
    """Its connection ends; a spool that still knows of the run is told why."""
    with served.trainer("live") as trainer:
        trainer.hello()
        trainer.store(layout(("", wire.RUN, wire.LOSS)), frame(0, [1.0]))
        answer = served.ask("DELETE", "/api/runs/live", "control")
        assert (answer.status_code, "force" in answer.json()["detail"]) == (409, True)
        assert served.ask("DELETE", "/api/runs/live?force=true", "control").status_code == 202
        assert close_of(trainer.socket) == (POLICY, "the run was deleted")
    with served.trainer("live") as again:
        again.say(wire.Hello(protocol=wire.PROTOCOL, identity=again.identity, first=0, next=5))
        code, reason = close_of(again.socket)
        assert (code, reason[:28]) == (POLICY, "run live was deleted here (a")
    until(lambda: not left(served.service.settings.database, "live"))
    assert served.get("/api/runs")["runs"] == []


@pytest.mark.parametrize(("role", "status"), [(None, 401), ("view", 403), ("ingest", 403)])
def test_deleting_and_pinning_need_control(served: Served, role: home.Role | None, status: int) -> None:
    """The attempt of a reader is refused."""
    fill(served, "run-1", 1)
    for method, path in (
        ("DELETE", "/api/runs/run-1"),
        ("PUT", "/api/runs/run-1/pin"),
        ("DELETE", "/api/runs/run-1/pin"),
    ):
        assert served.ask(method, path, role).status_code == status
    assert len(served.get("/api/runs")["runs"]) == 1
    for method, path in (("DELETE", "/api/runs/x"), ("PUT", "/api/runs/x/pin"), ("DELETE", "/api/runs/x/pin")):
        assert served.ask(method, path, "control").status_code == 404


def test_a_deletion_killed_half_way_is_gone_on_with_at_the_next_start(private_home: Path) -> None:
    """Meanwhile the run is not there for anybody."""
    with Served(private_home) as served:
        for run in ("gone", "kept"):
            fill(served, run)
        path = served.service.settings.database
    with closing(Database(path).writer()) as connection:  # what a killed server had done so far
        with transaction(connection):
            deletion.hide(connection, "gone", 1.0, "asked")
        with transaction(connection):
            assert deletion.sweep(connection, "gone")
    assert left(path, "gone")
    program = Program(private_home)
    program.start()
    try:
        assert [run["id"] for run in program.get("/api/runs")["runs"]] == ["kept"]
        until(lambda: not left(path, "gone"))
    finally:
        program.kill()
    assert left(path, "kept")


def test_servers_that_are_killed_while_they_delete_lose_nothing_else(private_home: Path) -> None:
    """Killed at several moments of one deletion: the run is gone from the first on, and in the end from the disk."""
    private_home.mkdir(mode=0o700)
    path = private_home / "trainvitals.db"
    make_large(path, "gone")
    with Served(private_home) as served:
        fill(served, "kept")
    before = contents(path, "kept")
    program, rounds = Program(private_home), 0
    program.start()
    headers = {"Authorization": f"Bearer {program.token('control')}"}
    assert httpx.delete(f"{program.url}/api/runs/gone", headers=headers, trust_env=False).status_code == 202
    while found := left(path, "gone"):
        program.kill()
        rounds += 1
        assert rounds < 50, found
        program.start()
        assert [run["id"] for run in program.get("/api/runs")["runs"]] == ["kept"]
        last = rows_in(found)
        until(lambda: rows_in(left(path, "gone")) < last)  # noqa: B023  # called at once
    program.stop()
    assert rounds
    assert contents(path, "kept") == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"


def test_row_ids_that_are_given_again_mean_the_new_run(served: Served) -> None:
    """What the writer remembers of the deleted run is not taken for it."""
    with served.trainer("gone") as trainer:
        trainer.hello()
        trainer.store(layout(("a", wire.NORM, wire.MEAN_MIN), ("b", wire.NORM, wire.MEAN_MIN)), frame(7, [1.0, 2.0]))
        before = served.get("/api/runs/gone/series")["series"]
        served.ask("DELETE", "/api/runs/gone?force=true", "control")
        until(lambda: not left(served.service.settings.database, "gone"))
    with served.trainer("new") as trainer:
        trainer.hello()
        trainer.store(layout(("", wire.RUN, wire.LOSS)), frame(3, [5.0]))
    (loss,) = served.get("/api/runs/new/series")["series"]
    assert loss["id"] == before[0]["id"]
    (data,) = served.get("/api/runs/new/data", series=loss["id"])["series"]
    assert (data["step"], data["first"]) == ([3], [5.0])


def rows_in(found: dict[str, int]) -> int:
    return sum(found.values())


def make_large(path: Path, run: str) -> None:
    """A run of 60 MB of frames that have not been compacted, entered as the writer would."""
    database = Database(path)
    with closing(database.writer()) as connection, transaction(connection):
        producer, _ = runs.enter(connection, identify(run), 2.0)
        declared = [wire.Series(place, f"l{place}", wire.NORM, wire.MEAN_MIN, place) for place in range(1000)]
        ids = [row.id for row in series.enter(connection, run, declared)]
        layout = series.save(connection, producer.id, 0, np.array(ids), list(declared))
        for low in range(0, 15_000, 60):
            steps = np.arange(low, low + 60)
            values = np.zeros((60, 1000), np.float32)
            frames.add(connection, layout.id, frames.Stretch(steps, steps.astype(float), values, None))
        runs.extend(connection, producer.id, (0, 14_999), (0.0, 14_999.0), 15_000)
        runs.update(connection, run, state="finished", ended=3.0)
    database.close()
