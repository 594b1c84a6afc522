"""Which rank repairs what, in real processes under DistributedDataParallel on gloo; and what each of them sends."""

import math
from pathlib import Path

import pytest

from loops import of_type, spooled
from processes import run_ranks
from rank_loops import Told, break_one, synchronised
from series import by_series, of_run
from trainvitals import wire

STEPS, BAD = 8, 3
ALONE = {"broadcast_buffers": False}
RANGES = (wire.MEAN_MIN, wire.MEAN_MAX, wire.VAR_MIN, wire.VAR_MAX)
COURSE = (wire.LOSS, wire.GRAD_NORM, wire.STEP_TIME, wire.HOOK_TIME, wire.LOSS_SCALE, wire.SKIPPED)
SUMMARY = {*COURSE, *RANGES, wire.CORRUPT_LAYERS, wire.NONFINITE_GRADIENTS}


def repairs(told: Told) -> list[tuple[int, str, int]]:
    """Step, origin and number of layers of each sanitization."""
    return [(one.step, one.origin, len(one.repairs)) for one in of_type(spooled(told.spool), wire.Sanitized)]


def breaks(told: Told) -> list[tuple[int, bool]]:
    """The step of each layer whose statistics broke, and whether that was passing."""
    found = of_type(spooled(told.spool), wire.NonFinite)
    return [(one.step, one.passing) for one in found if one.signal == "running_statistics"]


def unhealthy(told: Told) -> list[int]:
    """The steps of checks that found something."""
    return [one.step for one in of_type(spooled(told.spool), wire.HealthCheck) if not one.healthy]


def test_rank_0_streams_in_full_and_the_others_a_summary(tmp_path: Path) -> None:
    """The worst range over all layers, the counts, and the course of the run; their events all the same."""
    told = run_ranks(2, break_one, tmp_path, {BAD: [1]}, STEPS, {}, {})
    full, short = (by_series(spooled(one.spool)) for one in told)
    compared = {key for key in short if key[2].endswith(wire.COMPARED)}
    assert {stat for layer, kind, stat in short.keys() - compared} == SUMMARY
    assert {(layer, kind) for layer, kind, _ in short.keys() - compared} == {("", wire.RUN)}
    assert compared == {key for key in full if key[2].endswith(wire.COMPARED)}, "which rank 0 tells beside the rest"
    assert len(compared) == 12
    assert ("0.weight", wire.PARAMETER, wire.WEIGHT_NORM) in full, "and the slow layout"
    assert len(full) > 50
    corrupt = short["", wire.RUN, wire.CORRUPT_LAYERS]
    assert list(corrupt.values()) == [2.0 if step == BAD else 0.0 for step in range(STEPS)]
    assert all(math.isnan(short["", wire.RUN, stat][BAD]) for stat in RANGES), "NaN is the worst range of all"
    assert short["", wire.RUN, wire.NONFINITE_GRADIENTS][BAD] == 10
    assert [short["", wire.RUN, wire.SKIPPED][step] for step in (BAD - 1, BAD)] == [0, 1]
    assert of_run(spooled(told[0].spool), wire.GRAD_NORM)[:BAD] == of_run(spooled(told[1].spool), wire.GRAD_NORM)[:BAD]
    losses = [of_run(spooled(one.spool), wire.LOSS)[0] for one in told]
    assert losses[0] != losses[1], "each its own"
    assert max(len(spooled_bytes(told[1])), 1) < len(spooled_bytes(told[0])) / 2


def spooled_bytes(told: Told) -> bytes:
    """The bytes of all frames."""
    return b"".join(one.values for one in of_type(spooled(told.spool), wire.Frame))


def test_what_breaks_on_a_rank_that_follows_is_nobodys_repair(tmp_path: Path) -> None:
    """Its statistics are rank 0's again at the next forward: no repair, no unhealthy check, and the break is said to
    be passing."""
    told = run_ranks(2, break_one, tmp_path, {BAD: [1]}, STEPS, {"health_every": 1}, {})
    assert [repairs(one) for one in told] == [[], []]
    assert [unhealthy(one) for one in told] == [[], []]
    assert [breaks(one) for one in told] == [[], [(BAD, True), (BAD, True)]]
    assert [one.finite[BAD] for one in told] == [True, False]
    assert all(one.finite[BAD + 1] for one in told)


@pytest.mark.parametrize(("size", "late"), [(2, False), (2, True), (4, False)])
def test_rank_0_repairs_for_all(tmp_path: Path, size: int, late: bool) -> None:
    """At its safe point, before the forward that would have spread what broke; also where the wrapper came after
    `watch` and is only found when the model first runs in it."""
    told = run_ranks(size, break_one, tmp_path, {BAD: [0]}, STEPS, {}, {}, late)
    assert repairs(told[0]) == [(BAD, "auto", 2)]
    assert breaks(told[0]) == [(BAD, False), (BAD, False)]
    assert all(not repairs(one) and not breaks(one) and all(one.finite) for one in told[1:])
    assert all(one.finite[BAD + 1 :] == [True] * (STEPS - BAD - 1) for one in told)


def test_without_a_step_call_the_repair_comes_one_step_later_and_reaches_all(tmp_path: Path) -> None:
    """A skipped step fires no optimizer hook, so the next one is the safe point: what broke has spread by then, and
    rank 0's repair spreads after it."""
    told = run_ranks(2, break_one, tmp_path, {BAD: [0]}, STEPS, {}, {}, False, False)
    assert repairs(told[0]) == [(BAD + 1, "auto", 2)]
    assert repairs(told[1]) == []
    assert breaks(told[1]) == [(BAD, True), (BAD, True)]
    assert [one.finite[BAD + 2 :] for one in told] == [[True] * (STEPS - BAD - 2)] * 2


@pytest.mark.parametrize("bad", [[1], [0, 1]])
def test_without_the_broadcast_each_rank_repairs_itself(tmp_path: Path, bad: list[int]) -> None:
    """And only itself."""
    told = run_ranks(2, break_one, tmp_path, {BAD: bad}, STEPS, {}, ALONE)
    assert [repairs(one) for one in told] == [[(BAD, "auto", 2)] if rank in bad else [] for rank in range(2)]
    assert [breaks(one) for one in told] == [[(BAD, False)] * 2 if rank in bad else [] for rank in range(2)]
    assert all(one.finite[BAD + 1 :] == [True] * (STEPS - BAD - 1) for one in told)


@pytest.mark.parametrize(("wrap", "repairing"), [(ALONE, [0, 1]), ({}, [0])])
def test_statistics_that_are_gathered_break_on_all_ranks(
    tmp_path: Path, wrap: dict[str, bool], repairing: list[int]
) -> None:
    """One bad rank poisons all. Without the broadcast each repairs itself, in the same way; with it, rank 0 does."""
    told = run_ranks(2, break_one, tmp_path, {BAD: [1]}, STEPS, {}, wrap, False, True, True)
    assert [one.finite[BAD] for one in told] == [False, False]
    assert [bool(repairs(one)) for one in told] == [rank in repairing for rank in range(2)]
    assert all(one.finite[BAD + 1 :] == [True] * (STEPS - BAD - 1) for one in told)
    assert told[0].others["sum"] == pytest.approx(told[1].others["sum"])


def test_a_rank_that_follows_validates_on_good_statistics(tmp_path: Path) -> None:
    """Though the last step broke them and its evaluation goes past the wrapper, so that nothing replaces them first;
    and that is no repair of the run."""
    told = run_ranks(2, break_one, tmp_path, {STEPS - 1: [1]}, STEPS, {}, {})
    assert [(one.others["finite"], one.others["valid"]) for one in told] == [(True, 1)] * 2
    assert [repairs(one) for one in told] == [[], []]
    assert [unhealthy(one) for one in told] == [[], []]
    tainted = [one.tainted for one in of_type(spooled(told[1].spool), wire.Validation)]
    assert tainted == [False]


def test_sync_batchnorm_refuses_a_cpu(tmp_path: Path) -> None:
    """With or without a wrapper; which is why its gathering of statistics is done by hand above."""
    for told in run_ranks(2, synchronised, tmp_path):
        assert len(told) == 2
        assert all("GPU" in one for one in told)
