"""The choice of what to restore from."""

import torch
from torch import nn

from trainvitals.layers import named_norms
from trainvitals.repair.snapshots import OLDER, RECENT, SPACING, Snapshots

NORM = next(iter(named_norms({"": nn.Sequential(nn.BatchNorm1d(2))})))
BAD = torch.tensor([True, False])


def snapshots() -> Snapshots:
    return Snapshots([NORM], [2])


def values(mean: float, var: float) -> torch.Tensor:
    """Channel 0 as given, channel 1 plain."""
    return torch.tensor([mean, 0.0, var, 1.0])


def keep(kept: Snapshots, step: int, mean: float, var: float, healthy: bool = True) -> None:
    kept.keep(step, values(mean, var))
    kept.judge(step, healthy)


def test_the_newest_in_line_is_chosen() -> None:
    """One step old where nothing is odd."""
    kept = snapshots()
    for step in range(5):
        keep(kept, step, 0.1 * step, 1.0)
    donor = kept.donor(NORM, BAD)
    assert donor is not None
    assert donor.step == 4
    assert donor.mean[0] == torch.tensor(0.4)


def test_a_finite_but_inflated_snapshot_is_passed_over() -> None:
    """The batch before an overflow may have bent the statistics already."""
    kept = snapshots()
    for step in range(5):
        keep(kept, step, 0.0, 1.0)
    keep(kept, 5, 0.0, 500.0)
    donor = kept.donor(NORM, BAD)
    assert donor is not None
    assert (donor.step, float(donor.var[0])) == (4, 1.0)


def test_with_nothing_in_line_the_newest_finite_one_is_taken() -> None:
    """Better an odd value than none."""
    kept = snapshots()
    keep(kept, 0, float("nan"), 1.0, healthy=False)
    keep(kept, 1, 100.0, 1.0)
    donor = kept.donor(NORM, BAD)
    assert donor is not None
    assert donor.step == 1


def test_with_no_finite_one_nothing_is_usable() -> None:
    """The caller resets."""
    kept = snapshots()
    keep(kept, 0, float("nan"), 1.0, healthy=False)
    donor = kept.donor(NORM, BAD)
    assert donor is not None
    assert donor.usable.tolist() == [False, True]
    assert snapshots().donor(NORM, BAD) is None


def test_a_long_poisoning_elsewhere_does_not_push_the_good_ones_out() -> None:
    """Corrupt snapshots have places of their own."""
    kept = snapshots()
    for step in range(3):
        keep(kept, step, 0.0, 1.0)
    for step in range(3, 200):
        keep(kept, step, float("inf"), 1.0, healthy=False)
    donor = kept.donor(NORM, BAD)
    assert donor is not None
    assert donor.step == 2


def test_memory_is_bounded_and_reaches_back() -> None:
    """A few recent, a few far apart."""
    kept = snapshots()
    for step in range(1000):
        keep(kept, step, 0.0, 1.0)
    assert len(kept._recent) == RECENT
    assert len(kept._older) == OLDER
    assert kept._older[-1].step - kept._older[0].step == SPACING * (OLDER - 1)
