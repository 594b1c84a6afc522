"""Rules 1 to 4, from a real training to the server's verdict: ramps are seen in time, and healthy runs left alone."""

import pytest
import torch

from healthy import RUNS
from judged import early_findings, first_nonfinite, watched
from ramps import RAMPS, START


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("input scale, fp16 convolutions", {"headroom_falling", "headroom"}),
        ("offset, fp16 convolution and BatchNorm", {"batch_shift", "headroom_falling", "headroom"}),
        ("offset, FFT, fp16 convolution and BatchNorm", {"variance_slope", "headroom_falling", "headroom"}),
        ("input scale, half-precision BatchNorm", {"variance_slope", "half_variance"}),
    ],
)
def test_a_ramp_is_seen_twenty_steps_ahead(name: str, rules: set[str]) -> None:
    """What doubles every 5 steps fires each rule it concerns before the first non-finite value, the first in time, and
    none while all is well."""
    torch.manual_seed(0)
    records = watched(RAMPS[name](5), START + 150)
    broken, found = first_nonfinite(records), early_findings(records)
    assert broken is not None
    assert found[0].step > START
    assert broken.step - found[0].step >= 20
    assert {finding.rule for finding in found if finding.step < broken.step} >= rules


@pytest.mark.parametrize(
    "name", ["CNN with BatchNorm", "float16, heavy-tailed inputs", "resumed from an earlier state", "GAN"]
)
def test_a_healthy_run_gives_no_early_warning(name: str) -> None:
    """However uneven its batches are."""
    torch.manual_seed(0)
    assert not early_findings(watched(RUNS[name](), 200))
