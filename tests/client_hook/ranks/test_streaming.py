"""From real ranks over a real server to what is shown: one run, true norms, and each rank as it is."""

from pathlib import Path

import pytest

from processes import run_ranks
from rank_loops import break_one, fallen, shard_norms
from served import Served, until
from trainvitals import wire

STEPS, BAD = 6, 3
ONLINE = {"mode": "online"}


def test_shards_are_shown_as_true_norms(tmp_path: Path) -> None:
    """Under the name any other run has them by, for the parameters and the total; and no rank's part is."""
    with Served(tmp_path / "home") as served:
        answers = run_ranks(2, shard_norms, tmp_path, STEPS, False, ONLINE)
        run = answers[0][0].run
        series = served.get(f"/api/runs/{run}/series")["series"]
        wanted = {one["layer"]: one["id"] for one in series if one["stat"] == wire.GRAD_NORM}
        ids = ",".join(map(str, wanted.values()))
        data = served.get(f"/api/runs/{run}/data", series=ids)["series"]
        shown = {one["id"]: one["first"] for one in data}
        for name in answers[0][1][0]:
            assert shown[wanted[name]] == pytest.approx([step[name] for step in answers[0][1]], rel=1e-4)
        totals = [sum(norm**2 for norm in step.values()) ** 0.5 for step in answers[0][1]]
        assert shown[wanted[""]] == pytest.approx(totals, rel=1e-4)
        at = served.get(f"/api/runs/{run}/at", step=STEPS)["values"]
        assert at[str(wanted["0.weight"])] == pytest.approx(answers[0][1][-1]["0.weight"], rel=1e-4)
        weights = [one["id"] for one in series if (one["layer"], one["stat"]) == ("0.weight", wire.WEIGHT_NORM)]
        assert str(weights[0]) in at


def test_ranks_under_ddp_are_one_run_with_one_repair(tmp_path: Path) -> None:
    """Rank 0's, though a bad batch broke the other's statistics too: those passed, and alarm nobody."""
    with Served(tmp_path / "home") as served:
        told = run_ranks(2, break_one, tmp_path, {1: [1], BAD: [0]}, STEPS, ONLINE, {})
        run = served.get(f"/api/runs/{told[0].run}")
        assert len(served.get("/api/runs")["runs"]) == 1
        assert (run["state"], run["sanitizations"], run["ranks"]["states"]) == ("finished", 1, {"finished": 2})
        incidents = served.get(f"/api/runs/{told[0].run}/incidents")["incidents"]
        assert [(one["rank"], one["first_bad_step"], one["open"]) for one in incidents] == [(0, BAD, False)]
        assert {one["rank"] for one in served.get("/api/alerts")["alerts"] if one["rule"] == "norm_nonfinite"} <= {0}
        passed = [one for one in served.get(f"/api/runs/{told[0].run}/events", type="nonfinite")["events"]]
        assert {(one["rank"], one["step"]) for one in passed if one["data"]["passing"]} == {(1, 1)}


def test_a_bad_batch_on_one_rank_is_named_as_the_origin(tmp_path: Path) -> None:
    """It ruins everybody's weights through the gradients; rank 0, whose own batch was good, cannot know by what."""
    with Served(tmp_path / "home") as served:
        told = run_ranks(2, break_one, tmp_path, {BAD: [1]}, STEPS, ONLINE, {}, False, True, False, False)
        found = served.get(f"/api/runs/{told[0].run}/incidents")["incidents"][0]
        assert (found["rank"], found["first_bad_step"], found["origin"]) == (0, BAD, "input")
        assert [link["text"] for link in found["chain"] if link["text"].startswith("On rank 1: ")]


def test_a_rank_that_raises_is_named(tmp_path: Path) -> None:
    """Its own end comes with its reason; the other's, which could not go on without it, with its own."""
    with Served(tmp_path / "home") as served:
        runs = run_ranks(2, fallen, tmp_path, 2, ONLINE)
        run = until(lambda: (one := served.get(f"/api/runs/{runs[0]}"))["ranks"]["states"] == {"failed": 2} and one)
        one = next(one for one in run["producers"] if one["rank"] == 1)
        assert one["reason"] == "ValueError: planted"
        assert run["verdict"]["level"] == "critical"
