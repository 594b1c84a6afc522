"""A run that another process resumes, and a run of several ranks: whose alert is whose."""

from typing import Any

from served import Served, frame, layout
from trainvitals import wire

CHANNELS = layout(("bn", wire.NORM, wire.NONFINITE_CHANNELS))
RULE = "norm_nonfinite"


def alert(served: Served, rank: int = 0) -> Any:
    """The one alert of a rank."""
    found = served.get("/api/alerts", run="run-1")["alerts"]
    return next(one for one in found if (one["rule"], one["rank"]) == (RULE, rank))


def test_a_resumed_run_does_not_inherit_the_alerts_of_its_crash(served: Served) -> None:
    """The new process begins clean; a fresh break is a regression."""
    with served.trainer() as old:
        old.hello()
        old.store(CHANNELS, *[frame(step, [3.0]) for step in range(5)])
    assert alert(served)["status"] == "firing"
    with served.trainer(producer="p-2", started=2.0) as new:
        new.hello()
        over = alert(served)
        assert (over["status"], "another process resumed the run" in over["text"]) == ("resolved", True)
        new.store(CHANNELS, frame(5, [0.0]))
        assert served.get("/api/runs/run-1")["open_alerts"] == 0
        new.store(frame(6, [2.0]))
        assert alert(served)["status"] == "regressed"


def test_what_an_older_process_tells_late_opens_nothing(served: Served) -> None:
    """It is kept as what was, since nobody is left who could clear it."""
    with served.trainer() as old, served.trainer(producer="p-2", started=2.0) as new:
        old.hello()
        new.hello()
        old.store(CHANNELS, frame(0, [3.0]))
        assert alert(served)["status"] == "resolved"
        new.store(CHANNELS, frame(1, [2.0]))
        assert alert(served)["status"] == "regressed"
        old.store(frame(1, [0.0]))
        assert alert(served)["status"] == "regressed"


def test_a_rank_that_recovers_resolves_no_other_rank(served: Served) -> None:
    """Each has its own alert."""
    with served.trainer() as first, served.trainer(producer="p-2", rank=1, world_size=2) as second:
        for trainer in (first, second):
            trainer.hello()
            trainer.store(CHANNELS, frame(0, [3.0]))
        second.store(*[frame(step, [0.0]) for step in range(1, 80)])
    assert (alert(served)["status"], alert(served, 1)["status"]) == ("firing", "resolved")


def test_a_model_of_very_many_broken_layers_fills_no_table(served: Served) -> None:
    """Two hundred alerts of one rule say it all; when they are over, others may speak."""
    columns = [(f"bn.{place}", wire.NORM, wire.NONFINITE_CHANNELS) for place in range(250)]
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(layout(*columns), frame(0, [3.0] * 250))
        found = served.get("/api/alerts", run="run-1")["alerts"]
        assert len([one for one in found if one["rule"] == RULE]) == 200
        assert len(served.get("/api/runs/run-1")["nonfinite_layers"]) == 250
