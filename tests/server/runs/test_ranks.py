"""Several ranks shown as one run, each as honestly as the others."""

from contextlib import ExitStack
from typing import Any

from served import Served, frame, layout, until
from trainvitals import wire

RUN = "/api/runs/run-1"
LOSS = ("", wire.RUN, wire.LOSS)
CORRUPT = ("", wire.RUN, wire.CORRUPT_LAYERS)


def who(rank: int, size: int = 2) -> dict[str, Any]:
    return {"producer": f"p-{rank}", "rank": rank, "world_size": size, "launch": "l-1"}


def test_the_run_is_rank_0s_and_the_others_are_asked_for(served: Served) -> None:
    """Data and values as of a step are rank 0's by default, any other's by `rank=`."""
    with served.trainer(**who(1)) as one, served.trainer(**who(0)) as zero:
        for speaker, loss in ((one, 3.0), (zero, 1.0)):
            speaker.hello()
            speaker.store(layout(LOSS, CORRUPT), *[frame(step, [loss, 0.0]) for step in range(3)])
        assert len(served.get("/api/runs")["runs"]) == 1
        identity = str(next(row["id"] for row in served.get(f"{RUN}/series")["series"] if row["stat"] == wire.LOSS))
        for rank, loss in ((None, 1.0), (0, 1.0), (1, 3.0)):
            query = {} if rank is None else {"rank": rank}
            assert served.get(f"{RUN}/data", series=identity, **query)["series"][0]["first"] == [loss] * 3
            assert served.get(f"{RUN}/at", step=2, **query)["values"][identity] == loss


def test_a_rank_that_failed_is_the_runs_trouble(served: Served) -> None:
    """Which of them, at which step and by what; though rank 0 is still connected, waiting for it."""
    with ExitStack() as stack:
        for rank in range(2):
            speaker = stack.enter_context(served.trainer(**who(rank)))
            speaker.hello()
            speaker.store(layout(LOSS), frame(0, [1.0]), frame(1, [1.0]))
        assert served.get(RUN)["verdict"]["level"] == "ok"
        speaker.store(wire.Lifecycle(step=1, time=1e6, state="failed", reason="exception", error="ValueError: bad"))
        run = served.get(RUN)
        assert run["verdict"] == {"level": "critical", "text": "CRITICAL: rank 1 failed at step 1: ValueError: bad"}
        assert run["state"] == "live"
        assert run["ranks"]["states"] == {"live": 1, "failed": 1}
        failed = {"rank": 1, "state": "failed", "step": 1, "reason": "ValueError: bad"}
        assert run["ranks"]["troubled"] == [failed]
        assert [one["state"] for one in run["producers"]] == ["live", "failed"]


def test_a_rank_that_went_away_is_silent_while_others_go_on(served: Served) -> None:
    """Killed, it could say nothing; it is not counted as live."""
    with served.trainer(**who(0, 3)) as zero:
        zero.hello()
        with served.trainer(**who(1, 3)) as one:
            one.hello()
            one.store(layout(LOSS), frame(4, [1.0]))
        ranks = until(lambda: (found := served.get(RUN)["ranks"])["troubled"] and found)
        assert (ranks["size"], ranks["seen"], ranks["states"]) == (3, 2, {"live": 1, "silent": 1})
        assert [(one["rank"], one["state"], one["step"]) for one in ranks["troubled"]] == [(1, "silent", 4)]


def test_a_run_of_one_process_has_one_rank(served: Served) -> None:
    """And when it is over, nobody is in trouble."""
    with served.trainer() as trainer:
        trainer.hello()
        trainer.store(wire.Lifecycle(step=1, time=1e6, state="finished"))
    assert served.get(RUN)["ranks"] == {"size": 1, "seen": 1, "states": {"finished": 1}, "troubled": []}
