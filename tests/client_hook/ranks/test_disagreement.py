"""Real ranks over a real server: those that go their own way are named, and those that only have other data are not."""

from pathlib import Path
from typing import Any

import pytest

from loops import spooled
from processes import run_ranks
from rank_loops import drifting, shard_norms
from series import by_series
from served import Served
from trainvitals import wire

ONLINE = {"mode": "online"}
STEPS = 24


def alerts(served: Served) -> dict[str | None, dict[str, Any]]:
    """What rule 27 alarmed of, by layer."""
    return {one["layer"]: one for one in served.get("/api/alerts")["alerts"] if one["rule"] == "rank_disagreement"}


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_that_only_have_other_data_disagree_about_nothing(tmp_path: Path, size: int) -> None:
    """And their weights are the same to the last bit."""
    with Served(tmp_path / "home") as served:
        told = run_ranks(size, drifting, tmp_path, STEPS, {}, ONLINE)
        assert alerts(served) == {}
        series = served.get(f"/api/runs/{told[0].run}/series")["series"]
        wanted = [one["id"] for one in series if one["stat"] == wire.WEIGHTS_APART]
        data = served.get(f"/api/runs/{told[0].run}/data", series=str(wanted[0]), points=4000)["series"][0]
        assert data["step"] == list(range(2, STEPS, 2))
        assert set(data["first"]) == {1.0}


def test_a_rank_that_goes_its_own_way_is_named_with_what_the_others_have(tmp_path: Path) -> None:
    """Its weights, which DDP brings back to the others' by no gradient, and its statistics."""
    with Served(tmp_path / "home") as served:
        run_ranks(4, drifting, tmp_path, STEPS, {1: "weights", 3: "data"}, ONLINE)
        found = alerts(served)
        weights, variance = found["3.weight"], found["1"]
        assert (weights["severity"], weights["status"], weights["first_step"]) == ("critical", "firing", STEPS // 2 + 2)
        assert weights["text"].startswith("Rank 1's norm of 3.weight is ")
        assert weights["value"] == pytest.approx(1.01, abs=2e-3)
        assert {layer for layer, one in found.items() if one["severity"] == "critical"} == {"3.weight"}
        assert (variance["severity"], variance["status"]) == ("warning", "firing")
        assert variance["text"].startswith("Rank 3's largest running variance of 1 is ")


def test_a_sharded_parameter_is_not_compared(tmp_path: Path) -> None:
    """Each rank has another part of it."""
    told = run_ranks(2, shard_norms, tmp_path, 4, False, {})
    for one, _ in told:
        stats = {stat for _, _, stat in by_series(spooled(one.spool))}
        assert wire.WEIGHT_NORM + wire.SHARD in stats
        assert not [stat for stat in stats if stat.endswith(wire.COMPARED)]
