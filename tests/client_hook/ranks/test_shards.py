"""Sharded parameters (FSDP2 on gloo): squares of each process's part that add up to the true norms."""

from pathlib import Path

import pytest

from loops import spooled
from processes import run_ranks
from rank_loops import clipped_shards, flat_norms, shard_norms
from series import by_series
from trainvitals import wire

STEPS = 4
SQUARES = wire.GRAD_NORM + wire.SHARD


@pytest.mark.parametrize(("size", "repeated"), [(2, False), (4, False), (4, True)])
def test_the_squares_add_up_to_the_true_norms(tmp_path: Path, size: int, repeated: bool) -> None:
    """Also where a part is held twice (`repeated`): it counts once."""
    answers = run_ranks(size, shard_norms, tmp_path, STEPS, repeated, {})
    parts = [by_series(spooled(told.spool)) for told, _ in answers]
    expected = answers[0][1]
    for step in range(STEPS):
        for name, norm in expected[step].items():
            squares = [one[name, wire.PARAMETER, SQUARES][step] for one in parts]
            assert sum(squares) ** 0.5 == pytest.approx(norm, rel=1e-4)
        total = sum(norm**2 for norm in expected[step].values())
        assert sum(one["", wire.RUN, SQUARES][step] for one in parts) == pytest.approx(total, rel=1e-4)


def test_every_rank_sends_its_part_and_nothing_under_the_name_of_the_whole(tmp_path: Path) -> None:
    """A part is no norm, and a sum of roots can be no sum of squares."""
    for told, _ in run_ranks(2, shard_norms, tmp_path, STEPS, False, {}):
        series = by_series(spooled(told.spool))
        stats = {stat for _, _, stat in series}
        assert not stats & {wire.GRAD_NORM, wire.WEIGHT_NORM, wire.MOMENT_NORM}
        assert {SQUARES, wire.WEIGHT_NORM + wire.SHARD} <= stats
        assert {layer for layer, kind, _ in series if kind == wire.PARAMETER} == {
            "0.weight",
            "0.bias",
            "2.weight",
            "2.bias",
        }


def test_clipping_is_seen_in_the_part_that_lies_here(tmp_path: Path) -> None:
    """One factor for all, so that the squares of the parts after it add up as well."""
    answers = run_ranks(2, clipped_shards, tmp_path, STEPS)
    key = "", wire.RUN, wire.GRAD_NORM_CLIPPED + wire.SHARD
    parts = [by_series(spooled(told.spool))[key] for told, _ in answers]
    totals = [sum(part[step] for part in parts) ** 0.5 for step in range(STEPS)]
    assert totals == pytest.approx(answers[0][1], rel=1e-4)


def test_flat_parameters_are_parts_too(tmp_path: Path) -> None:
    """FSDP of the first kind: each unit by its own name, the squares of its parts adding up to the whole."""
    answers = run_ranks(2, flat_norms, tmp_path, STEPS)
    parts = [by_series(spooled(told.spool)) for told, _ in answers]
    for step in range(STEPS):
        assert sum(one["", wire.RUN, SQUARES][step] for one in parts) == pytest.approx(answers[0][1], rel=1e-4)
    assert {layer for layer, kind, _ in parts[0] if kind == wire.PARAMETER} == {"_flat_param", "0._flat_param"}
