"""Repairing running statistics in place, channel by channel.

A channel is bad when its mean or variance is non-finite or its variance negative; mean and variance are then replaced
together. `restore` takes them from a donor, the last good statistics; channels for which there is none are reset to
mean 0 and variance 1, and the repair says so.

Call it only where no graph that used the buffers still waits for its backward: between a step and the next forward.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from trainvitals import wire
from trainvitals.layers import Norm, named_norms


@dataclass(frozen=True)
class Donor:
    """Statistics to restore from, shapes [channels]; `usable` says for which channels. `step` is the oldest used."""

    mean: torch.Tensor
    var: torch.Tensor
    usable: torch.Tensor
    step: int | None = None


Donors = Callable[[Norm, torch.Tensor], Donor | None]  # the layer and its bad channels (bool) -> its donor


def bad_channels(norm: Norm) -> torch.Tensor:
    """Which channels are corrupt: bool, shape [channels]."""
    return ~torch.isfinite(norm.mean) | ~torch.isfinite(norm.var) | (norm.var < 0)


@torch.no_grad()
def repair_statistics(
    norms: Sequence[Norm], strategy: wire.Strategy, donors: Donors | None = None, dry_run: bool = False
) -> list[wire.Repair]:
    """Repair every corrupt layer in `norms` in place and say what was done; with `dry_run` only say it."""
    repairs = []
    for norm in norms:
        bad = bad_channels(norm)
        if bool(bad.any()):
            donor = donors(norm, bad) if strategy == "restore" and donors is not None else None
            repairs.append(_repair(norm, bad, donor, dry_run))
    return repairs


def sanitize_model_bn_stats(
    model: nn.Module,
    verbose: bool = True,
    strategy: wire.Strategy = "reset",
    good: Mapping[str, torch.Tensor] | None = None,
) -> int:
    """Repair every corrupt running statistic of `model` in place; returns the number of buffers repaired.

    `strategy="reset"` puts mean 0 and variance 1 into the bad channels; `"restore"` takes them from `good`, a state
    dict of the same model from a healthy time, and resets what it lacks. `verbose` prints one line per buffer.
    """
    if strategy not in ("reset", "restore"):
        raise ValueError(f"strategy: expected 'reset' or 'restore', got {strategy!r}")
    donors = None if good is None else _donors_from(good)
    repairs = repair_statistics(list(named_norms({"": model})), strategy, donors)
    if verbose:
        for line in describe(repairs):
            print(line)
    return sum(len(repair.buffers) for repair in repairs)


def describe(repairs: Sequence[wire.Repair]) -> list[str]:
    """One line per repaired buffer, in the words of the user's own script."""
    verb = {"reset": "Resetting", "restore": "Restoring"}
    return [
        f"[SANITIZE] {verb[repair.strategy]} corrupted {buffer}: {repair.layer}.{buffer}"
        for repair in repairs
        for buffer in repair.buffers
    ]


def _donors_from(good: Mapping[str, torch.Tensor]) -> Donors:
    def find(norm: Norm, bad: torch.Tensor) -> Donor | None:
        mean, var = good.get(f"{norm.name}.running_mean"), good.get(f"{norm.name}.running_var")
        if mean is None or var is None or mean.shape != bad.shape or var.shape != bad.shape:
            return None
        mean, var = mean.to(norm.mean), var.to(norm.var)
        return Donor(mean, var, torch.isfinite(mean) & torch.isfinite(var) & (var >= 0))

    return find


def _repair(norm: Norm, bad: torch.Tensor, donor: Donor | None, dry_run: bool) -> wire.Repair:
    mean, var = torch.zeros_like(norm.mean), torch.ones_like(norm.var)
    restored = donor is not None and bool((donor.usable & bad).any())
    if donor is not None and restored:
        mean = torch.where(donor.usable, donor.mean.to(mean), mean)
        var = torch.where(donor.usable, donor.var.to(var), var)
    mean, var = torch.where(bad, mean, norm.mean), torch.where(bad, var, norm.var)
    repair = wire.Repair(
        layer=norm.name,
        channels=int(bad.sum()),
        total=bad.numel(),
        strategy="restore" if restored else "reset",
        buffers=corrupt_buffers(norm),
        snapshot_step=donor.step if donor is not None and restored else None,
        before={"running_mean": _range(norm.mean), "running_var": _range(norm.var)},
        after={"running_mean": _range(mean), "running_var": _range(var)},
    )
    if not dry_run:
        norm.mean.copy_(mean)
        norm.var.copy_(var)
    return repair


def corrupt_buffers(norm: Norm) -> list[str]:
    """Which of the two buffers are corrupt, by name."""
    corrupt = []
    if not bool(torch.isfinite(norm.mean).all()):
        corrupt.append("running_mean")
    if not bool((torch.isfinite(norm.var) & (norm.var >= 0)).all()):
        corrupt.append("running_var")
    return corrupt


def _range(values: torch.Tensor) -> list[float]:
    low, high = values.float().aminmax()
    return [float(low), float(high)]
