"""Repairing running statistics in place, channel by channel.

A channel is bad when its mean or variance is non-finite or its variance negative; mean and variance are then replaced
together. `restore` takes them from a donor, the last good statistics; channels for which there is none are reset to
mean 0 and variance 1, and the repair says so.

Call it only where no graph that used the buffers still waits for its backward: between a step and the next forward.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainvitals import wire
from trainvitals.layers import Norm, clean_name, named_norms, named_singles
from trainvitals.repair.health import check_supported, find_issue


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
    good: Mapping[str, Any] | nn.Module | None = None,
) -> int:
    """Repair every corrupt running statistic of `model` in place; returns the number of buffers repaired.

    `strategy="reset"` puts mean 0 and variance 1 into the bad channels; `"restore"` takes them from `good`, the same
    model or its state dict from a healthy time (wrappers' prefixes do not matter), and resets what it lacks. `verbose`
    prints one line per buffer. To estimate them anew from data there is `recalibrate_bn`.

    Raises ValueError for another strategy, UnsupportedTensorError for statistics on the meta device or quantised.
    """
    if strategy not in ("reset", "restore"):
        raise ValueError(
            f"strategy: expected 'reset' or 'restore', got {strategy!r} (to recalibrate, call recalibrate_bn)"
        )
    norms, singles = list(named_norms({"": model})), list(named_singles(model))
    for key, buffer in [(f"{norm.name}.running_var", norm.var) for norm in norms]:
        check_supported(key.removeprefix("."), buffer)
    state = _state_of(good) if strategy == "restore" and good is not None else {}
    lines = describe(repair_statistics(norms, strategy, _donors_from(state)))
    lines += [line for layer, name, buffer in singles for line in _repair_single(layer, name, buffer, state)]
    if verbose:
        for line in lines:
            print(line)
    return len(lines)


@torch.no_grad()
def _repair_single(layer: str, name: str, buffer: torch.Tensor, state: Mapping[str, torch.Tensor]) -> list[str]:
    """A statistic that has no partner, element by element."""
    key = f"{layer}.{name}".removeprefix(".")
    check_supported(key, buffer)
    if not any(find_issue(key, buffer, "statistics")):
        return []
    negative = buffer.real < 0 if name == "running_var" and not buffer.is_complex() else torch.zeros_like(buffer).bool()
    bad = ~torch.isfinite(buffer) | negative
    donor, neutral = _found(state, key), torch.full_like(buffer, float(name == "running_var"))
    usable = donor is not None and donor.shape == buffer.shape and not any(find_issue(key, donor, "statistics"))
    source = donor.to(buffer) if donor is not None and usable else neutral
    buffer.copy_(torch.where(bad, source, buffer))
    return [f"[SANITIZE] {'Restoring' if usable else 'Resetting'} corrupted {name}: {key}"]


def _state_of(good: Mapping[str, Any] | nn.Module) -> dict[str, torch.Tensor]:
    """Tensors under the names of the user's own model: of a model, its state dict, or a checkpoint that holds one."""
    state: Mapping[str, Any] = good.state_dict() if isinstance(good, nn.Module) else good
    for name in ("model", "state_dict"):
        inner = state.get(name)
        state = inner if isinstance(inner, Mapping) else state
    named = {clean_name("", key): value for key, value in state.items() if isinstance(value, torch.Tensor)}
    return {**{key.removeprefix("module."): value for key, value in named.items()}, **named}


def describe(repairs: Sequence[wire.Repair]) -> list[str]:
    """One line per repaired buffer, in the words of the user's own script."""
    verb = {"reset": "Resetting", "restore": "Restoring"}
    return [
        f"[SANITIZE] {verb[repair.strategy]} corrupted {buffer}: {f'{repair.layer}.{buffer}'.removeprefix('.')}"
        for repair in repairs
        for buffer in repair.buffers
    ]


def _donors_from(good: Mapping[str, torch.Tensor]) -> Donors:
    def find(norm: Norm, bad: torch.Tensor) -> Donor | None:
        mean, var = (_found(good, f"{norm.name}.{name}".removeprefix(".")) for name in ("running_mean", "running_var"))
        if mean is None or var is None or mean.shape != bad.shape or var.shape != bad.shape:
            return None
        mean, var = mean.to(norm.mean), var.to(norm.var)
        return Donor(mean, var, torch.isfinite(mean) & torch.isfinite(var) & (var >= 0))

    return find


def _found(good: Mapping[str, torch.Tensor], key: str) -> torch.Tensor | None:
    """An average's layers are called `module.`, whatever their originals are."""
    found = good.get(key)
    return good.get(key.removeprefix("module.")) if found is None else found


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
