"""Which run the processes of one training belong to, and which place each has."""

from pathlib import Path

import msgspec
import pytest

from processes import run_ranks
from rank_loops import alone, break_one, unanswered, ungrouped
from trainvitals import wire
from trainvitals.ranks import Place, find_place, join

LAUNCHED = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


def test_all_ranks_take_rank_0s_run(tmp_path: Path) -> None:
    """And each says which of how many it is, and that they were started together."""
    told = run_ranks(4, break_one, tmp_path, {}, 2, {}, {})
    assert len({one.run for one in told}) == 1
    who = [msgspec.msgpack.decode((one.spool / "identity").read_bytes(), type=wire.Identity) for one in told]
    assert [(one.rank, one.world_size) for one in who] == [(rank, 4) for rank in range(4)]
    assert len({one.launch for one in who}) == 1
    assert who[0].launch
    assert [one.follows for one in who] == [False, True, True, True]


def test_a_run_id_that_is_given_is_everybodys(tmp_path: Path) -> None:
    """From the environment, which all of them have."""
    told = run_ranks(2, break_one, tmp_path, {}, 2, {}, {}, environment={"TRAINVITALS_RUN_ID": "given"})
    assert [one.run for one in told] == ["given", "given"]


def test_a_script_in_which_only_rank_0_watches_trains_on(tmp_path: Path) -> None:
    """Nothing waits for an answer, and nothing of ours gets among the loop's own collectives."""
    first, second = run_ranks(2, alone, tmp_path)
    assert first
    assert not second


def test_a_rank_whose_rank_0_does_not_watch_goes_by_itself(tmp_path: Path) -> None:
    """After a while, and says so."""
    assert run_ranks(2, unanswered, tmp_path) == [("", []), ("own", ["rank 1 could not agree with rank 0 on a run id"])]


def test_torchruns_processes_agree_before_there_is_a_process_group(tmp_path: Path) -> None:
    """Twice over: the first watch of each is one run, the second another."""
    told = [
        run_ranks(1, ungrouped, tmp_path / str(rank), grouped=False, environment={**LAUNCHED, "RANK": str(rank)})[0]
        for rank in range(2)
    ]
    assert told[0] == told[1]
    assert told[0][0] != told[0][1]


def test_over_several_machines_the_rendezvous_names_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it has no name of its own: then each goes by itself, rather than with yesterday's run."""
    named = {"TORCHELASTIC_RUN_ID": "job-7", "MASTER_ADDR": "host-a", "MASTER_PORT": "29500"}
    for name, value in {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", **named}.items():
        monkeypatch.setenv(name, value)
    run, place = join(None, "own")
    assert run.startswith("launch-")
    assert place == Place(1, 4)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert join(None, "own")[0] == "own"


@pytest.mark.parametrize(("rank", "size"), [("", ""), ("1", ""), ("x", "2"), ("2", "2"), ("-1", "2")])
def test_an_environment_that_makes_no_sense_is_nobodys_rank(
    monkeypatch: pytest.MonkeyPatch, rank: str, size: str
) -> None:
    """A watch that cannot tell is the only one."""
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    assert find_place() == Place()
