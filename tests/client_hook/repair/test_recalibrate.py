"""recalibrate_bn: the average over clean batches, and nothing else changed."""

import logging
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

import trainvitals
from loops import small_net


def images(count: int = 5) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(4, 3, 8, 8, generator=generator) for _ in range(count)]


def statistics(model: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items() if "running" in key or "tracked" in key}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[key], two[key]) for key in one)


def test_on_clean_batches_it_is_what_torch_computes() -> None:
    """But for the count, which belongs to the momentum."""
    ours, theirs = small_net(), small_net()
    result = trainvitals.recalibrate_bn(ours, images())
    update_bn(images(), theirs)
    assert (result.used, result.dropped, bool(result)) == (5, 0, True)
    assert all(
        torch.allclose(value, statistics(theirs)[key]) for key, value in statistics(ours).items() if "running" in key
    )


def test_a_bad_batch_is_dropped_whole_and_poisons_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Where torch's own function ends non-finite. The bad one leaves no trace: the same as without it."""
    bad = torch.full((4, 3, 8, 8), float("inf"))
    clean, mixed, theirs = small_net(), small_net(), small_net()
    trainvitals.recalibrate_bn(clean, images())
    result = trainvitals.recalibrate_bn(mixed, [bad, *images(2), bad, *images()[2:]])
    update_bn([bad, *images()], theirs)
    assert (result.used, result.dropped) == (5, 2)
    assert same(statistics(clean), statistics(mixed))
    assert not trainvitals.check_model_health(theirs).is_healthy
    assert "2 of 7 batches were not finite and were dropped" in caplog.text


def test_corrupt_statistics_are_replaced() -> None:
    """It is a repair."""
    model = small_net()
    model[1].running_var[2] = float("inf")
    assert trainvitals.recalibrate_bn(model, images())
    assert trainvitals.check_model_health(model).is_healthy


@pytest.mark.parametrize("batches", [[], [torch.full((4, 3, 8, 8), float("nan"))]])
def test_without_a_clean_batch_nothing_changes(batches: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """And it says so: the result is falsy."""
    model = small_net()
    trainvitals.recalibrate_bn(model, images())
    before = statistics(model)
    assert not trainvitals.recalibrate_bn(model, batches)
    assert same(before, statistics(model))
    assert "expected a clean batch, got none" in caplog.text


def test_an_error_leaves_everything_as_it_was() -> None:
    """Statistics, momentum, modes and random states; and it goes on to the caller."""
    model = small_net()
    model[4].eval()
    before = statistics(model)
    drawn = torch.get_rng_state()

    def failing() -> Iterator[torch.Tensor]:
        yield torch.rand(4, 3, 8, 8)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        trainvitals.recalibrate_bn(model, failing())
    assert same(before, statistics(model))
    assert (model[1].momentum, model.training, model[1].training, model[4].training) == (0.1, True, True, False)
    assert torch.equal(torch.get_rng_state(), drawn)


def test_it_draws_no_random_number_of_the_users() -> None:
    """Though the batches and the forward draw as many as they like."""
    model = small_net()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]

    def forward(net: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        random.random()
        np.random.rand()
        made: torch.Tensor = net(batch + torch.rand(()))
        return made

    trainvitals.recalibrate_bn(model, images(), forward)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]  # type: ignore[union-attr]


def test_dropout_stays_as_in_evaluation() -> None:
    """Only layers with statistics are in training mode meanwhile."""
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3))
    trainvitals.recalibrate_bn(model, [torch.ones(4, 3, 8, 8)])
    assert torch.equal(model[1].running_mean, torch.ones(3))
    assert model[0].training


def test_a_frozen_layer_stays_as_it_is() -> None:
    """In evaluation mode within a model in training mode."""
    model = small_net()
    model[1].eval()
    before = statistics(model)
    trainvitals.recalibrate_bn(model, images())
    assert torch.equal(statistics(model)["1.running_mean"], before["1.running_mean"])
    assert not torch.equal(statistics(model)["4.running_mean"], before["4.running_mean"])


def test_a_model_in_evaluation_mode_is_recalibrated_whole_and_stays_there() -> None:
    """As before a validation."""
    model = small_net().eval()
    before = statistics(model)
    assert trainvitals.recalibrate_bn(model, images())
    assert not torch.equal(statistics(model)["1.running_mean"], before["1.running_mean"])
    assert not model.training
    assert not model[1].training


@pytest.mark.parametrize(("momentum", "count"), [(0.1, 7), (None, 5)])
def test_the_count_belongs_to_the_momentum(momentum: float | None, count: int) -> None:
    """A cumulative average goes on from the batches used; elsewhere it is left alone."""
    model = nn.Sequential(nn.BatchNorm2d(3, momentum=momentum))
    model[0].num_batches_tracked.fill_(7)
    trainvitals.recalibrate_bn(model, images())
    assert model[0].num_batches_tracked.item() == count
    assert model[0].momentum == momentum


def test_a_layer_that_runs_twice_averages_over_all_its_inputs() -> None:
    """A shared module."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.norm(x) + self.norm(x + 2)
            return y

    model = Twice()
    trainvitals.recalibrate_bn(model, images())
    expected = torch.stack([x.mean((0, 2, 3)) for x in images()]).mean(0) + 1
    assert torch.allclose(model.norm.running_mean, expected, atol=1e-5)


def test_instance_norm_is_averaged_too() -> None:
    """Though it does not know momentum None."""
    model = nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True))
    trainvitals.recalibrate_bn(model, images())
    expected = torch.stack([x.mean((0, 2, 3)) for x in images()]).mean(0)
    assert torch.allclose(model[0].running_mean, expected, atol=1e-5)
    assert model[0].momentum == 0.1


def test_batches_are_taken_as_loaders_give_them() -> None:
    """Tensors, pairs of input and target, mappings of keyword arguments."""
    plain, pairs = small_net(), small_net()
    trainvitals.recalibrate_bn(plain, images())
    trainvitals.recalibrate_bn(pairs, [(x, torch.zeros(4)) for x in images()])
    assert same(statistics(plain), statistics(pairs))
    named = small_net()
    trainvitals.recalibrate_bn(named, [{"input": x} for x in images()])
    assert same(statistics(plain), statistics(named))


def test_a_compiled_and_a_wrapped_model_are_run_as_given() -> None:
    """DataParallel on the CPU is a plain call."""
    plain, wrapped = small_net(), nn.DataParallel(small_net())
    trainvitals.recalibrate_bn(plain, images())
    trainvitals.recalibrate_bn(wrapped, images())
    compiled = small_net()
    trainvitals.recalibrate_bn(torch.compile(compiled, backend="eager"), images())
    assert same(statistics(plain), statistics(wrapped.module))
    assert same(statistics(plain), statistics(compiled))


def test_overflow_under_the_callers_autocast_is_a_dropped_batch(caplog: pytest.LogCaptureFixture) -> None:
    """The user's own failure: a finite batch that float16 cannot hold."""
    caplog.set_level(logging.WARNING)
    model = small_net()
    with torch.autocast("cpu", dtype=torch.float16):
        result = trainvitals.recalibrate_bn(model, [*images(2), torch.full((4, 3, 8, 8), 1e6)])
    assert (result.used, result.dropped) == (2, 1)
    assert trainvitals.check_model_health(model).is_healthy
