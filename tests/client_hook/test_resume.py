"""A run that was interrupted and resumed is the run that was not."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import trainvitals
from loops import of_type, small_net, spooled
from trainvitals import wire
from trainvitals.storage.randomness import rng_state


class Run:
    """Dropout, Adam, a scaler that grows and once backs off, a schedule, an average, and data drawn at random."""

    def __init__(self, seed: int) -> None:
        self.model = nn.Sequential(small_net(seed), nn.Dropout(0.5))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-2)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=4)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 5)
        self.ema = torch.optim.swa_utils.AveragedModel(self.model, use_buffers=True)

    def watch(self, **settings: Any) -> trainvitals.Watch:
        return trainvitals.watch(
            self.model,
            self.optimizer,
            scaler=self.scaler,
            scheduler=self.scheduler,
            ema=self.ema,
            mode="offline",
            **settings,
        )

    def load(self, path: Path) -> trainvitals.LoadedCheckpoint:
        return trainvitals.load_checkpoint(path, self.model, self.optimizer, self.scaler, self.scheduler, ema=self.ema)

    def train(self, watch: trainvitals.Watch, first: int, end: int) -> None:
        for step in range(first, end):
            x = torch.rand(2, 3, 8, 8) * (1 + random.random() + np.random.rand())
            loss = ((self.model(x) - x) ** 2).mean()
            self.optimizer.zero_grad()
            self.scaler.scale(loss).backward()
            if step == 3:
                self.model[0][0].weight.grad[0] = float("inf")
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.scheduler.step()
            self.ema.update_parameters(self.model)
            watch.step(loss=loss)

    def everything(self) -> Any:
        parts = (self.model, self.optimizer, self.scaler, self.scheduler, self.ema)
        return [part.state_dict() for part in parts] + [rng_state()]


def assert_same(one: Any, other: Any) -> None:
    """Bit for bit, however nested."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def seed_all() -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)


def frames(watch: trainvitals.Watch) -> list[int]:
    watch.close()
    assert watch.spool_path is not None
    return [frame.step for frame in of_type(spooled(watch.spool_path), wire.Frame) if frame.layout == 0]


def test_six_steps_a_checkpoint_and_six_more_are_twelve_steps(tmp_path: Path) -> None:
    """Weights, moments, scaler, schedule, average, random states, step numbers, run and best metric."""
    whole = Run(0)
    watch = whole.watch()
    seed_all()
    whole.train(watch, 0, 12)
    watch.close()

    first = Run(0)
    watch = first.watch()
    seed_all()
    first.train(watch, 0, 6)
    assert watch.save_checkpoint(tmp_path / "x.pth", metric=20.0).best
    assert frames(watch) == [0, 1, 2, 3, 4, 5]

    second = Run(9)
    torch.rand(7), np.random.rand(7), random.random()
    loaded = second.load(tmp_path / "x.pth")
    resumed = second.watch(resume=loaded)
    second.train(resumed, loaded.next_step, 12)
    assert_same(whole.everything(), second.everything())
    assert (resumed.run_id, resumed.best_metric) == (watch.run_id, 20.0)
    assert not resumed.save_checkpoint(tmp_path / "x.pth", metric=19.0).best
    assert frames(resumed) == [6, 7, 8, 9, 10, 11]
    assert trainvitals.load_checkpoint(tmp_path / "x.pth").best_metric == 20.0


def test_what_is_given_goes_before_what_was_loaded(tmp_path: Path) -> None:
    """A run that starts from another's checkpoint is named and counted as the user says."""
    run = Run(0)
    watch = run.watch()
    seed_all()
    run.train(watch, 0, 2)
    watch.save_checkpoint(tmp_path / "x.pth")
    watch.close()
    other = Run(0)
    loaded = other.load(tmp_path / "x.pth")
    watch = other.watch(resume=loaded, run_id="mine", start_step=100)
    other.train(watch, 0, 1)
    assert watch.run_id == "mine"
    assert frames(watch) == [100]
    named = Run(0).watch(resume="by-name")
    named.close()
    assert named.run_id == "by-name"
