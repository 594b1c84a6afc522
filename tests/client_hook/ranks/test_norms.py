"""Gradient norms under DistributedDataParallel: those of the all-reduced gradient, in all of its ways."""

from pathlib import Path

import pytest

from loops import spooled
from processes import run_ranks
from rank_loops import plain_norms, true_norms
from series import by_series, of_run
from trainvitals import wire

STEPS = 4


@pytest.mark.parametrize(
    ("size", "variant"),
    [(2, "plain"), (4, "plain"), (2, "accumulated"), (2, "unused"), (2, "static"), (2, "compiled")],
)
def test_norms_are_those_of_one_process_on_the_whole_batch(tmp_path: Path, size: int, variant: str) -> None:
    """Each parameter's on rank 0, and the total on every rank."""
    told = run_ranks(size, plain_norms, tmp_path, STEPS, variant, {})
    expected = true_norms(STEPS, size, parts=3 if variant == "accumulated" else 1)
    prefix = "used." if variant == "unused" else ""
    series = by_series(spooled(told[0].spool))
    for name in expected[0]:
        seen = series[f"{prefix}{name}", wire.PARAMETER, wire.GRAD_NORM]
        assert list(seen.values()) == pytest.approx([one[name] for one in expected], rel=1e-4)
    totals = [sum(norm**2 for norm in one.values()) ** 0.5 for one in expected]
    for one in told:
        assert of_run(spooled(one.spool), wire.GRAD_NORM) == pytest.approx(totals, rel=1e-4)
    if variant == "unused":
        assert series["unused.weight", wire.PARAMETER, wire.GRAD_NORM] == {}, "absent, which is not 0"
