"""A summary follows its run, and what is dear in it is found out again only when something says so."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from served import Served, frame, layout, until
from trainvitals import wire
from trainvitals_server.changes import Frame
from trainvitals_server.runs import summary
from trainvitals_server.runs.vitals import Vitals
from trainvitals_server.store import history

LOSS = ("", wire.RUN, wire.LOSS)
BAD = ("bn", wire.NORM, wire.NONFINITE_CHANNELS)
NEGATIVE = ("bn2", wire.NORM, wire.NEGATIVE_CHANNELS)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time that a whole run was looked at."""
    found: list[str] = []
    read = history.read_moment

    def counted(connection: Any, question: history.Question, *rest: Any) -> history.Moment:
        found.append(question.run)
        return read(connection, question, *rest)

    monkeypatch.setattr(history, "read_moment", counted)
    return found


def test_frames_that_say_nothing_new_cost_no_look_at_the_run(served: Served, looks: list[str]) -> None:
    """Its step and its verdict's step go on all the same; a layer that breaks or heals is seen at once."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS, BAD, NEGATIVE), frame(0, [1.0, 0.0, 0.0]))
        served.get("/api/runs/run-1")
        before = len(looks)
        for step in range(1, 6):
            trainer.store(frame(step, [1.0, 0.0, None]))
            summary = served.get("/api/runs/run-1")
            assert (summary["step"], "up to step " + str(step) in summary["verdict"]["text"]) == (step, True)
        assert len(looks) <= before + 1, "the first frame made the run live"
        trainer.store(frame(6, [1.0, 2.0, 0.0]))
        assert served.get("/api/runs/run-1")["nonfinite_layers"] == ["bn"]
        trainer.store(frame(7, [1.0, None, 1.0]))
        assert served.get("/api/runs/run-1")["nonfinite_layers"] == ["bn", "bn2"]
        trainer.store(frame(8, [1.0, 0.0, 0.0]))
        assert served.get("/api/runs/run-1")["nonfinite_layers"] == []
        assert served.get("/api/runs")["runs"][0]["step"] == 8


def test_what_was_stored_before_is_known_soon_after_a_start(private_home: Path, looks: list[str]) -> None:
    """Nobody has to ask first, nor wait when they do."""
    with Served(private_home) as server, server.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS, BAD), frame(0, [1.0, 3.0]))
    looks.clear()
    with Served(private_home) as server:
        until(lambda: looks == ["run-1"])
        assert server.get("/api/runs")["runs"][0]["nonfinite_layers"] == ["bn"]
        assert len(looks) <= 2


def told(values: list[float], present: list[bool] | None = None, rank: int = 0) -> Frame:
    """A frame of three series, of which 2 and 3 count faults."""
    bits = None if present is None else np.packbits(present, bitorder="little").tobytes()
    return Frame(1, np.array([3, 1, 2]), 0, 0.0, rank, np.array(values, "<f4").tobytes(), bits)


def test_only_counters_of_faults_and_only_rank_0_matter() -> None:
    """Of columns in any order, those that are there."""
    vitals = Vitals([3, 2], {1: 5.0, 2: 0.0, 3: 4.0})
    assert not vitals.changed([told([2.0, 7.0, 0.0])])
    assert vitals.changed([told([2.0, 7.0, 1.0])])
    assert vitals.changed([told([0.0, 7.0, 0.0])])
    assert not vitals.changed([told([0.0, 7.0, 1.0], rank=1)])
    assert not vitals.changed([told([0.0, 7.0, 1.0], present=[False, True, False])])
    assert vitals.changed([told([0.0, 7.0, 1.0], present=[True, True, False])])


def test_nothing_is_kept_of_runs_that_nobody_asks_for(served: Served) -> None:
    """And of those that ended only what the list shows."""
    kept = served.service.parts.summaries._kept
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(LOSS), frame(0, [1.0]))
        assert not kept
        served.get("/api/runs/run-1")
        assert kept["run-1"].findings is not None
        trainer.store(wire.Lifecycle(step=1, time=1e6, state="finished"))
        assert served.get("/api/runs/run-1")["state"] == "finished"
    assert kept["run-1"].findings is None
    assert kept["run-1"].summary is not None
    assert served.ask("GET", "/api/runs/none").status_code == 404
    assert list(kept) == ["run-1"]


def test_the_run_that_was_asked_for_least_lately_makes_room(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list shows all of them all the same."""
    monkeypatch.setattr(summary, "KEPT_RUNS", 2)
    for name in ("a", "b", "c"):
        with served.trainer(name, name) as trainer:
            trainer.hello()
            trainer.store(layout(LOSS), frame(0, [1.0]))
    assert {run["id"] for run in served.get("/api/runs")["runs"]} == {"a", "b", "c"}
    assert len(served.service.parts.summaries._kept) == 2
