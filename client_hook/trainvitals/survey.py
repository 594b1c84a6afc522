"""Which layers there are to watch now, and what has changed since they were last looked at.

Layers come and go in mid-run: blocks are added, frozen, unfrozen, replaced, moved to another device, or get their shape
at their first forward. A look at all of them costs about a microsecond per parameter, so it is taken every
`health_every` steps, and sooner where something cheap gives a hint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from trainvitals.layers import Norm, is_compiled, is_selected, named_modules, named_norms, named_parameters
from trainvitals.options import Options
from trainvitals.training import Training

NAMED = 8  # layers named in one notice


@dataclass(frozen=True)
class Survey:
    """What was found: pairs of name and object, in registration order. `groups` are the sizes of the optimizers'
    parameter groups, `lazy` is what has yet to get its shape, `sources` tells by name which object each one was."""

    parameters: list[tuple[str, nn.Parameter]]
    norms: list[Norm]
    modules: list[tuple[str, nn.Module]]
    groups: list[int]
    lazy: list[nn.Module]
    compiled: bool

    sources: dict[str, Any]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for two surveys of the same layers; the objects are kept, so that no id is used twice."""
        return self.sources, self.groups, self.compiled


def survey(training: Training, options: Options) -> Survey:
    """The layers that `training` has and `options` select."""
    models = training.models

    def chosen(name: str) -> bool:
        return is_selected(name, options.include, options.exclude)

    parameters = [(name, parameter) for name, parameter in named_parameters(models) if chosen(name)]
    norms = [norm for norm in named_norms(models) if chosen(norm.name)]
    return Survey(
        parameters=parameters,
        norms=norms,
        modules=[(name, module) for name, module in named_modules(models) if chosen(name)],
        groups=group_sizes(training.optimizers),
        lazy=[module for model in models.values() for module in model.modules() if is_lazy(module)],
        compiled=any(is_compiled(model) for model in models.values()),
        sources={name: id(parameter) for name, parameter in parameters}
        | {norm.name: (id(norm.module), norm.mean.device, norm.mean.numel()) for norm in norms},
    )


def group_sizes(optimizers: Mapping[str, torch.optim.Optimizer]) -> list[int]:
    """How many parameters each group of each optimizer has."""
    return [len(group["params"]) for optimizer in optimizers.values() for group in optimizer.param_groups]


def describe_change(before: Survey, now: Survey) -> str:
    """In a few words: which layers came, which went, which are other objects than before."""
    old, new = before.sources, now.sources
    came = [name for name in new if name not in old]
    went = [name for name in old if name not in new]
    other = [name for name in new if name in old and new[name] != old[name]]
    parts = [
        f"{what}: {_named(names)}" for what, names in (("new", came), ("gone", went), ("replaced", other)) if names
    ]
    return "; ".join(parts) or "the optimizer's parameter groups changed"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def is_lazy(module: nn.Module) -> bool:
    """Whether some of its tensors have yet to get their shape."""
    held = [*module._parameters.values(), *module._buffers.values()]
    return any(isinstance(tensor, UninitializedParameter | UninitializedBuffer) for tensor in held)
