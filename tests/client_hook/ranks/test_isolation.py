"""No process waits for another on our account."""

from pathlib import Path

import pytest

from loops import of_type, spooled
from processes import run_ranks
from rank_loops import gathering_alone, save_alone, spied_on
from series import of_run
from trainvitals import wire

STEPS = 6
PROBES = ("gradients", "statistics", "scaler", "weights", "headroom")


@pytest.mark.parametrize("fsdp", [False, True])
def test_nothing_is_asked_of_other_ranks_in_the_loop(tmp_path: Path, fsdp: bool) -> None:
    """No collective and no operator of a process group is called from our code once `watch` has returned, by DDP or
    by shards; not at the periodic check either, nor on entering a validation."""
    for told in run_ranks(2, spied_on, tmp_path, STEPS, (), fsdp):
        assert (told.asked, told.steps) == ([], STEPS)


@pytest.mark.parametrize("fsdp", [False, True])
def test_a_rank_whose_probes_fail_holds_nobody_up(tmp_path: Path, fsdp: bool) -> None:
    """All ranks go through all steps; the one that failed says which probes did."""
    first, second = run_ranks(2, spied_on, tmp_path, STEPS, PROBES, fsdp)
    assert (first.steps, second.steps) == (STEPS, STEPS)
    assert of_type(spooled(first.spool), wire.ProbeFault) == []
    assert {one.probe for one in of_type(spooled(second.spool), wire.ProbeFault)} >= {"gradients", "statistics"}
    assert len(of_run(spooled(second.spool), wire.LOSS)) == STEPS


def test_a_batch_is_not_run_again_where_that_would_wait_for_others(tmp_path: Path) -> None:
    """A forward with a collective of the user's own in it: the replay stops there, and the loop goes on."""
    told, _ = run_ranks(2, gathering_alone, tmp_path, 2, 5)
    assert [(one.step, one.place) for one in told] == [(2, "unknown")]


def test_saving_on_one_rank_of_a_sharded_model_waits_for_nobody(tmp_path: Path) -> None:
    """By the script it saves this rank's part, judged by itself; by a command it is refused."""
    said, _ = run_ranks(2, save_alone, tmp_path, tmp_path)
    assert said == ("saved", "save_checkpoint: a sharded model is saved by all of its ranks together, from the loop")
