"""Which layers a run has, and what they are called.

Names are those of the user's own model: the wrappers of `torch.compile`, DataParallel and DistributedDataParallel leave
no trace in them. With several models given as a dict, the dict's keys become prefixes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

Models = Mapping[str, nn.Module]
STATISTICS = ("running_mean", "running_var")
# What the wrappers of torch.compile, FSDP and activation checkpointing call the module inside them.
WRAPPED = ("", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class Norm:
    """A module that keeps running statistics. `model` is the key of the model it belongs to."""

    name: str
    module: nn.Module
    model: str

    @property
    def mean(self) -> torch.Tensor:
        """running_mean, [channels] or a shape of as many elements; looked up each time: `.to()` rebinds buffers."""
        mean = self.module._buffers["running_mean"]
        assert mean is not None  # noqa: S101 - holds by construction, see `holds_statistics`
        return mean

    @property
    def var(self) -> torch.Tensor:
        """running_var, in the same shape."""
        var = self.module._buffers["running_var"]
        assert var is not None  # noqa: S101
        return var


def unwrap(model: nn.Module) -> nn.Module:
    """The user's own module inside the wrappers of torch.compile, DataParallel and DistributedDataParallel."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def is_compiled(model: nn.Module) -> bool:
    """Whether module hooks added now would be ignored, or would force a recompilation."""
    return any(hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules())


def statistics_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """The module's own running statistics by name, whichever of the two it keeps. Lazy ones count once initialised."""
    found = {name: module._buffers.get(name) for name in STATISTICS}
    return {n: b for n, b in found.items() if isinstance(b, torch.Tensor) and not isinstance(b, UninitializedBuffer)}


def holds_statistics(module: nn.Module) -> bool:
    """Whether the module keeps a mean and a variance per channel: BatchNorm and its kin, tracked InstanceNorm, and any
    class of the user's that has the two buffers in one shape."""
    pair = list(statistics_of(module).values())
    return len(pair) == 2 and pair[0].shape == pair[1].shape and all(b.is_floating_point() for b in pair)


def named_norms(models: Models) -> Iterator[Norm]:
    """Every module with running statistics, once, in registration order."""
    for key, name, module in _named_modules(models):
        if holds_statistics(module):
            yield Norm(name, module, key)


def named_singles(model: nn.Module) -> Iterator[tuple[str, str, torch.Tensor]]:
    """Layer, name and value of each running statistic that is not one of a pair: of classes of the user's that keep
    only one of the two, or the two in different shapes, or complex ones."""
    for _, layer, module in _named_modules({"": model}):
        if not holds_statistics(module):
            yield from ((layer, name, buffer) for name, buffer in statistics_of(module).items())


def named_modules(models: Models) -> Iterator[tuple[str, nn.Module]]:
    """Every module, once, in registration order."""
    for _, name, module in _named_modules(models):
        yield name, module


def named_parameters(models: Models) -> Iterator[tuple[str, nn.Parameter]]:
    """Every initialised parameter that asks for a gradient, once, however often it is shared."""
    seen: set[int] = set()
    for key, model in models.items():
        for name, parameter in unwrap(model).named_parameters():
            if id(parameter) in seen or not parameter.requires_grad or isinstance(parameter, UninitializedParameter):
                continue
            seen.add(id(parameter))
            yield clean_name(key, name), parameter


def clean_name(key: str, name: str) -> str:
    """The user's name for what `named_modules` or `named_parameters` calls `name` within the model `key`."""
    return ".".join(part for part in (key, *name.split(".")) if part not in WRAPPED)


def is_selected(name: str, include: list[str] | None, exclude: list[str] | None) -> bool:
    """Whether a layer name passes the glob patterns given to `watch`."""
    if include is not None and not any(fnmatchcase(name, pattern) for pattern in include):
        return False
    return not any(fnmatchcase(name, pattern) for pattern in exclude or [])


def _named_modules(models: Models) -> Iterator[tuple[str, str, nn.Module]]:
    memo: set[nn.Module] = set()
    for key, model in models.items():
        for name, module in unwrap(model).named_modules(memo=memo):
            yield key, clean_name(key, name), module
