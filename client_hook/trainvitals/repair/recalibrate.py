"""Estimating running statistics anew from clean batches.

The statistics become the cumulative average over the batches, as `torch.optim.swa_utils.update_bn` computes it, with
what that lacks: a batch that makes any statistic corrupt is taken back whole and counted as dropped, so it cannot
poison them again; and whatever happens, momentum, training flags and random states are as they were afterwards.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainvitals.layers import Norm, named_norms, unwrap
from trainvitals.repair.sanitize import bad_channels
from trainvitals.storage.randomness import restore_rng_state, rng_state

log = logging.getLogger("trainvitals")
Forward = Callable[[nn.Module, Any], Any]
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
Copy = list[dict[str, torch.Tensor]]  # the buffers of each layer


@dataclass(frozen=True)
class Recalibration:
    """Batches that went into the statistics, and batches that were dropped; true where there was a clean one."""

    used: int
    dropped: int

    def __bool__(self) -> bool:
        return self.used > 0


@torch.no_grad()
def recalibrate_bn(model: nn.Module, batches: Iterable[Any], forward: Forward | None = None) -> Recalibration:
    """Estimate the running statistics of `model` as the average over `batches`, each of equal weight.

    `forward(model, batch)` runs the model once. By default a mapping is passed as keyword arguments, of a tuple or list
    the first element, anything else as it is. Only layers with running statistics are put into training mode: dropout
    and the like stay as in evaluation. A layer in evaluation mode within a model in training mode is a frozen one and
    stays as it is. The caller's autocast applies.

    Where no batch is clean, the statistics are left as they were, with a warning; so they are where `forward` or
    `batches` raises, and the error goes on. `num_batches_tracked` counts the batches used where `momentum` is None (the
    cumulative average goes on from there) and is left alone elsewhere. Buffers change in place: call it between steps.
    """
    run = forward or default_forward
    norms = [norm for norm in named_norms({"": model}) if norm.module.training or not unwrap(model).training]
    used = dropped = 0
    with _borrowed(model, norms) as momenta:
        before = _copy(norms)
        try:
            _start(norms)
            for batch in batches:
                clean = _copy(norms)
                _weigh(norms, used)
                run(model, batch)
                if any(bool(bad_channels(norm).any()) for norm in norms):
                    _put_back(norms, clean)
                    dropped += 1
                else:
                    used += 1
        except BaseException:
            _put_back(norms, before)
            raise
        if used:
            _put_back(norms, _counts(before, momenta))
        else:
            _put_back(norms, before)
    _tell(used, dropped)
    return Recalibration(used, dropped)


def default_forward(model: nn.Module, batch: Any) -> Any:
    """The model on a batch as data loaders give it."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(batch[0] if isinstance(batch, tuple | list) else batch)


@contextmanager
def _borrowed(model: nn.Module, norms: list[Norm]) -> Iterator[list[Any]]:
    """The layers of `norms` in training mode, all else in evaluation mode; yields the momenta. Puts everything back."""
    flags = [(module, module.training) for module in model.modules()]
    momenta = [getattr(norm.module, "momentum", None) for norm in norms]
    random = rng_state()
    try:
        for module, _ in flags:
            module.training = False
        for norm in norms:
            norm.module.training = True
        yield momenta
    finally:
        for module, flag in flags:
            module.training = flag
        for norm, momentum in zip(norms, momenta, strict=True):
            if hasattr(norm.module, "momentum"):
                norm.module.momentum = momentum  # type: ignore[assignment]
        restore_rng_state(random)


def _start(norms: list[Norm]) -> None:
    for norm in norms:
        norm.mean.zero_()
        norm.var.fill_(1)
        if (count := norm.module._buffers.get("num_batches_tracked")) is not None:
            count.zero_()


def _weigh(norms: list[Norm], used: int) -> None:
    """Let the next batch count as much as each before it. BatchNorm does that by itself with momentum None, also where
    a layer runs several times in one forward; InstanceNorm takes None for "never"."""
    for norm in norms:
        if isinstance(norm.module, nn.modules.batchnorm._BatchNorm):
            norm.module.momentum = None
        elif hasattr(norm.module, "momentum"):
            norm.module.momentum = 1 / (used + 1)  # type: ignore[assignment]  # nn.Module types attributes as tensors


def _copy(norms: list[Norm]) -> Copy:
    return [
        {name: buffer.clone() for name in BUFFERS if (buffer := norm.module._buffers.get(name)) is not None}
        for norm in norms
    ]


def _put_back(norms: list[Norm], copy: Copy) -> None:
    for norm, buffers in zip(norms, copy, strict=True):
        for name, value in buffers.items():
            norm.module._buffers[name].copy_(value)  # type: ignore[union-attr]  # it was there when it was copied


def _counts(before: Copy, momenta: list[Any]) -> Copy:
    """Of what was there before, the counts of the layers that do not average cumulatively."""
    return [
        {name: value for name, value in buffers.items() if name == "num_batches_tracked" and momentum is not None}
        for buffers, momentum in zip(before, momenta, strict=True)
    ]


def _tell(used: int, dropped: int) -> None:
    if not used:
        log.warning("recalibrate_bn: expected a clean batch, got none (%d dropped); statistics unchanged", dropped)
    elif dropped:
        log.warning("recalibrate_bn: %d of %d batches were not finite and were dropped", dropped, used + dropped)
