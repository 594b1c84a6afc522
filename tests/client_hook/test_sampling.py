"""Which steps are observed: every `every`-th, fewer where steps are very short, and all of them around a break."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import trainvitals
from loops import of_type, spooled
from trainvitals import sampling, wire
from trainvitals.sampling import DENSE, WINDOW, Sampling


class Counted:
    """A sampling, the steps it picked, and what it announced."""

    def __init__(self, every: int = 1) -> None:
        self.said: list[tuple[int, str, str]] = []
        self.picked: list[int] = []
        self.sampling = Sampling(every, lambda code, text: self.said.append((self.sampling.count, code, text)))

    def run(self, steps: int, seconds: float) -> list[int]:
        """The steps picked among the next ones."""
        begin = len(self.picked)
        for _ in range(steps):
            if self.sampling.due:
                self.picked.append(self.sampling.count)
            self.sampling.end(seconds)
        return self.picked[begin:]


def strides(picked: list[int]) -> set[int]:
    """The distances between steps."""
    return {b - a for a, b in pairwise(picked)}


def test_ordinary_steps_are_all_observed() -> None:
    """Nothing is announced."""
    counted = Counted()
    assert strides(counted.run(3 * WINDOW, 0.02)) == {1}
    assert counted.said == []


def test_short_steps_are_thinned_after_the_first_thousand() -> None:
    """1.3 ms: one in four is 5.2 ms apart; the trainer says so."""
    counted = Counted()
    assert strides(counted.run(WINDOW, 0.0013)) == {1}
    assert strides(counted.run(WINDOW, 0.0013)) == {4}
    ((step, code, text),) = counted.said
    assert (step, code) == (WINDOW, "thinned")
    assert text == "steps take 1.3 ms: one in 4 is observed, to stay 5 ms apart"


def test_a_stride_of_ones_own_counts() -> None:
    """Every tenth step of 1 ms is far enough apart."""
    counted = Counted(every=10)
    counted.run(2 * WINDOW, 0.001)
    assert strides(counted.picked) == {10}
    assert counted.said == []


def test_longer_steps_are_observed_again_but_not_to_and_fro() -> None:
    """At the bound nothing changes; well above it, everything is seen again."""
    counted = Counted()
    counted.run(WINDOW, 0.003)
    assert strides(counted.run(WINDOW, 0.006)) == {2}
    assert strides(counted.run(WINDOW, 0.0061)) == {2}
    counted.run(WINDOW, 0.02)
    assert strides(counted.run(WINDOW, 0.02)) == {1}
    assert [code for _, code, _ in counted.said] == ["thinned", "unthinned"]


def test_around_a_break_every_step_counts() -> None:
    """And thinning goes on afterwards."""
    counted = Counted()
    counted.run(2 * WINDOW, 0.001)
    counted.sampling.note_break()
    assert counted.run(DENSE, 0.001) == list(range(2 * WINDOW, 2 * WINDOW + DENSE))
    assert strides(counted.run(500, 0.001)) == {8}


def test_a_thinned_training_says_so_and_shows_its_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real loop with a low limit: a notice, frames with gaps, and no gap in the steps after a break."""
    monkeypatch.setattr(sampling, "WINDOW", 40)
    monkeypatch.setattr(sampling, "DENSE", 30)
    monkeypatch.setattr(sampling, "SHORTEST", 10.0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline", directory=tmp_path)
    for step in range(120):
        if step == 70:
            model[1].running_mean[0] = float("inf")
        optimizer.zero_grad()
        model(torch.rand(8, 4)).square().mean().backward()
        optimizer.step()
        watch.step()
    watch.close()
    records = spooled(watch.spool_path)
    (notice,) = of_type(records, wire.Notice)
    assert notice.code == "thinned"
    steps = [frame.step for frame in of_type(records, wire.Frame) if frame.layout == 0]
    assert steps[:40] == list(range(40))
    broken = next(event.step for event in of_type(records, wire.NonFinite))
    thinned = [step for step in steps if 41 < step < broken]
    assert len(thinned) < (broken - 41) / 2
    assert set(range(broken, min(broken + 30, 120))) <= set(steps)
