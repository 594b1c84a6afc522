"""A database that cannot be written for a while, seen from outside: a full disk, a log that may not grow. Nothing that
was acked is lost, and what was not is taken later."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import ClientConnection

from served import Served, Speaker, close_of, frame, layout, until
from trainvitals import wire
from trainvitals_server.cli import main
from trainvitals_server.errors import SlowReadError
from trainvitals_server.ingest import connections, socket
from trainvitals_server.runs.summary import Summaries
from trainvitals_server.store import wal

COLUMNS = [(f"layer.{place}", wire.PARAMETER, wire.GRAD_NORM) for place in range(1000)]
VALUES = np.ones(1000).tolist()


def heartbeat(browser: ClientConnection, wanted: Callable[[dict[str, str]], bool]) -> dict[str, str]:
    """What the next message that says so tells about the database."""

    def told() -> Any:
        message = browser.recv(10)
        found = json.loads(message).get("store") if isinstance(message, str) else None
        return found if found is not None and wanted(found) else None

    found: dict[str, str] = until(told)
    return found


def stream(trainer: Speaker, first: int, last: int) -> tuple[int, wire.Nack | None]:
    """Frames one by one until they are refused: the last step acked, and the refusal."""
    for step in range(first, last):
        trainer.send(frame(step, VALUES), first=step + 1)
        answer = wire.decode_to_trainer(bytes(trainer.socket.recv(10)))  # type: ignore[arg-type]
        if isinstance(answer, wire.Nack):
            return step - 1, answer
    return last - 1, None


def stored(served: Served) -> list[int]:
    """The steps that are on the disk."""
    data: list[int] = served.get("/api/runs/run-1/data", series="1")["series"][0]["step"]
    return data


def limit(served: Served, pages: int) -> None:
    """The database may have so many pages; SQLite makes 1 the present size."""
    job = served.service.parts.writer.submit(
        lambda tx: tx.connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    )
    job.result(10)


def test_a_full_disk_costs_time_and_nothing_else(served: Served) -> None:
    """`nack retry`, 503, a word to the page; all is stored once there is room."""
    with served.trainer() as trainer, served.live(None) as browser:
        trainer.hello()
        trainer.store(layout(*COLUMNS))
        limit(served, 1)
        acked, nack = stream(trainer, 0, 500)
        assert nack is not None
        assert (nack.kind, "full" in nack.reason) == ("retry", True)
        assert served.ask("GET", "/readyz", None).status_code == 503
        assert "full" in heartbeat(browser, lambda store: bool(store["trouble"]))["trouble"]
        limit(served, 1 << 30)
        assert stream(trainer, acked + 1, acked + 40) == (acked + 39, None)
        assert served.ask("GET", "/readyz", None).json() == {"status": "ready"}
        assert heartbeat(browser, lambda store: not store["trouble"]) == {"trouble": "", "warning": ""}
    assert stored(served) == list(range(acked + 40))


def test_a_reader_that_stays_is_warned_of_then_stops_the_writer_and_is_forgiven(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process with an old snapshot: first a warning, then `nack retry`, then all is well."""
    for name, value in {"HIGH": 1 << 20, "MOST": 2 << 20, "OWN_SECONDS": 0.1, "PAUSE_SECONDS": 0.0}.items():
        monkeypatch.setattr(wal, name, value)
    with (
        served.trainer() as trainer,
        served.live(None) as browser,
        closing(sqlite3.connect(served.directory / "trainvitals.db", isolation_level=None)) as other,
    ):
        trainer.hello()
        trainer.store(layout(*COLUMNS))
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM frames").fetchone()
        acked, nack = stream(trainer, 0, 2000)
        assert nack is not None
        assert (nack.kind, "another process" in nack.reason) == ("retry", True)
        assert heartbeat(browser, lambda store: bool(store["warning"]))
        assert "trainvitals_warning 1\n" in served.ask("GET", "/metrics").text
        other.execute("ROLLBACK")
        assert stream(trainer, acked + 1, acked + 10) == (acked + 9, None)
        until(lambda: served.ask("GET", "/readyz", None).json() == {"status": "ready"})
    assert stored(served)[-1] == acked + 9
    assert served.get("/api/runs/run-1")["counts"]["frames"] == acked + 10


@pytest.mark.parametrize("verb", [["runs"], ["show", "run-1"]])
def test_a_shell_is_told_that_nothing_is_stored(
    served: Served, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """What it shows was true before."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(*COLUMNS))
        limit(served, 1)
        assert stream(trainer, 0, 500)[1] is not None
        assert main([*verb, "--directory", str(served.directory)]) == 0
        out, err = capsys.readouterr()
        assert "run-1" in out
        assert err.startswith("trainvitals: what is shown may be old, since nothing new can be stored: the database")
        assert err.count("\n") == 1


def test_a_database_locked_by_another_process_holds_up_nobody_but_trainers(served: Served) -> None:
    """While the writer waits for the lock, whoever only reads is answered."""
    with (
        served.trainer() as trainer,
        closing(sqlite3.connect(served.directory / "trainvitals.db", isolation_level=None)) as other,
    ):
        trainer.hello()
        trainer.store(layout(*COLUMNS), frame(0, VALUES))
        other.execute("BEGIN IMMEDIATE")
        trainer.send(frame(1, VALUES))
        assert stored(served) == [0]
        assert served.ask("GET", "/healthz", None).is_success
        assert trainer.hear(wire.Nack).kind == "retry"
        other.execute("ROLLBACK")
        trainer.send(frame(1, VALUES), first=2)
        assert trainer.hear(wire.Ack).seq == 2


def test_batches_that_wait_together_are_stored_together_and_refused_together(served: Served) -> None:
    """One ack for all of them, or one `nack retry` from the first on."""
    with (
        served.trainer() as trainer,
        closing(sqlite3.connect(served.directory / "trainvitals.db", isolation_level=None)) as other,
    ):
        trainer.hello()
        trainer.store(layout(*COLUMNS))
        other.execute("BEGIN IMMEDIATE")
        for step in range(6):
            trainer.send(frame(step, VALUES))
        nack = trainer.hear(wire.Nack)
        assert (nack.kind, nack.seq) == ("retry", 1)
        other.execute("ROLLBACK")
        for step in range(6):
            trainer.send(frame(step, VALUES), first=step + 1)
        last = -1
        while last < 6:
            answer = wire.decode_to_trainer(bytes(trainer.socket.recv(10)))  # type: ignore[arg-type]
            last = answer.seq if isinstance(answer, wire.Ack) else last
    assert stored(served) == list(range(6))
    assert served.get("/api/runs/run-1")["counts"]["frames"] == 6


def test_more_trainers_than_may_be_are_told_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a code that says to come again; those who are there stay."""
    monkeypatch.setattr(socket, "MAX_CONNECTIONS", 2)
    assert connections.MAX_CONNECTIONS >= 1000
    with served.trainer() as one, served.trainer("run-2") as two, served.trainer("run-3") as three:
        one.hello()
        two.hello()
        three.say(wire.Hello(protocol=wire.PROTOCOL, identity=three.identity, first=0, next=0))
        assert close_of(three.socket) == (1013, "expected at most 2 trainers, got another one")
        one.store(layout(COLUMNS[0]))


def test_what_a_long_read_is_answered_with(shared: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, since the same may be quick another time."""

    def fail(summaries: Summaries) -> None:
        raise SlowReadError("expected to read at most 2 s, it took longer")

    monkeypatch.setattr(Summaries, "all", fail)
    answer = shared.ask("GET", "/api/runs")
    assert (answer.status_code, answer.json()["detail"]) == (503, "expected to read at most 2 s, it took longer")
    with shared.live(None) as browser:
        assert close_of(browser) == (1013, "expected to read at most 2 s, it took longer")
