"""Is this model healthy? A full look at its tensors, for checks outside the training loop.

It synchronises with the device, so it belongs where a moment does not matter: after loading, before validation, before
a save. Inside the loop the probes answer the same question without waiting.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from trainvitals.layers import holds_statistics, unwrap

Kind = Literal["nan", "inf", "negative variance"]
Group = Literal["statistics", "weights", "optimizer"]


@dataclass(frozen=True)
class Issue:
    """One corrupt tensor: `count` of `total` elements, the first at index `first`."""

    key: str
    kind: Kind
    count: int
    total: int
    first: tuple[int, ...]
    group: Group

    def __str__(self) -> str:
        return f"{self.key}: {self.count} of {self.total} {self.kind}, first at index {list(self.first)}"


@dataclass(frozen=True)
class HealthReport:
    """What `check_model_health` found; unpacks as `is_healthy, issues`."""

    issues: list[Issue] = field(default_factory=list)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing was found."""
        return not self.issues

    @property
    def is_repairable(self) -> bool:
        """Whether only statistics are corrupt. Corrupt weights or optimizer state are more serious: no repair of
        statistics brings them back."""
        return all(issue.group == "statistics" for issue in self.issues)

    def __iter__(self) -> Iterator[bool | list[Issue]]:
        return iter((self.is_healthy, self.issues))


def check_model_health(
    model: nn.Module, check_weights: bool = False, optimizer: torch.optim.Optimizer | None = None
) -> HealthReport:
    """Look for NaN, Inf and negative variance in running statistics; with `check_weights` also in every parameter and
    other buffer, with `optimizer` also in its state."""
    inner = unwrap(model)
    issues = [
        issue for key, tensor, group in _tensors(inner, check_weights) for issue in find_issue(key, tensor, group)
    ]
    if optimizer is not None:
        issues += _optimizer_issues(inner, optimizer)
    return HealthReport(issues)


def find_issue(key: str, tensor: torch.Tensor, group: Group) -> Iterator[Issue]:
    """The tensor's fault, if it has one. NaN is named before Inf, Inf before a negative variance."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0 or tensor.is_meta:
        return
    with torch.no_grad():
        flat = tensor.detach().coalesce().values() if tensor.is_sparse else tensor.detach()
        negative = group == "statistics" and key.endswith("running_var")
        bad = ~torch.isfinite(flat) | (flat < 0) if negative else ~torch.isfinite(flat)
        count = int(bad.sum())
        if count:
            first = tuple(int(i) for i in bad.nonzero()[0])
            yield Issue(key, _kind(flat), count, flat.numel(), first, group)


def _kind(tensor: torch.Tensor) -> Kind:
    if torch.isnan(tensor).any():
        return "nan"
    return "inf" if torch.isinf(tensor).any() else "negative variance"


def _tensors(model: nn.Module, check_weights: bool) -> Iterator[tuple[str, torch.Tensor, Group]]:
    for prefix, module in model.named_modules():
        statistics = ("running_mean", "running_var") if holds_statistics(module) else ()
        for name, buffer in module._buffers.items():
            if buffer is None or isinstance(buffer, UninitializedBuffer):
                continue
            if name in statistics:
                yield _join(prefix, name), buffer, "statistics"
            elif check_weights:
                yield _join(prefix, name), buffer, "weights"
    if check_weights:
        for name, parameter in model.named_parameters():
            if not isinstance(parameter, UninitializedParameter):
                yield name.replace("_orig_mod.", ""), parameter, "weights"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}".removeprefix(".").replace("_orig_mod.", "")


def _optimizer_issues(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Issue]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        for slot, value in state.items():
            if isinstance(value, torch.Tensor):
                yield from find_issue(f"optimizer.{names.get(id(parameter), '?')}.{slot}", value, "optimizer")
