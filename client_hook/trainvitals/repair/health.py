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
from torch.utils._pytree import tree_leaves

from trainvitals.errors import UnsupportedTensorError
from trainvitals.layers import clean_name, statistics_of, unwrap
from trainvitals.probes.shards import local_part

Kind = Literal["nan", "inf", "negative variance"]
Group = Literal["statistics", "weights", "optimizer"]
SERIOUS = "more serious: no repair of statistics brings them back"
CONSEQUENCES: dict[Group, str] = {
    "statistics": "fixable, training can continue",
    "weights": SERIOUS,
    "optimizer": SERIOUS,
}


@dataclass(frozen=True)
class Issue:
    """One corrupt tensor: `count` of `total` elements, the first at index `first`. `kind` is the worst of its `kinds`,
    the number of elements that are "nan", "+inf", "-inf" (complex: "inf") and "negative variance"."""

    key: str
    kind: Kind
    count: int
    total: int
    first: tuple[int, ...]
    group: Group
    kinds: dict[str, int] = field(default_factory=dict)

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

    def __str__(self) -> str:
        """One line where all is well; else the corrupt tensors, the less serious first, and what they mean."""
        lines = []
        for group, consequence in CONSEQUENCES.items():
            found = [issue for issue in self.issues if issue.group == group]
            if found:
                lines += [f"{len(found)} corrupted {group}: {consequence}", *(f"  - {issue}" for issue in found)]
        return "\n".join(lines) or "Model health: OK"


def check_model_health(
    model: nn.Module, check_weights: bool = False, optimizer: torch.optim.Optimizer | None = None
) -> HealthReport:
    """Look for NaN, Inf and negative variance in running statistics; with `check_weights` also in every parameter and
    other buffer, with `optimizer` also in its state.

    Raises UnsupportedTensorError for a tensor that holds no values to look at: on the meta device, or quantised.
    Quantised weights are no obstacle to looking at the statistics alone.
    """
    inner = unwrap(model)
    issues: list[Issue] = []
    for key, tensor, group in _tensors(inner, check_weights):
        check_supported(key, tensor)
        issues += find_issue(key, tensor, group)
    if optimizer is not None:
        issues += _optimizer_issues(inner, optimizer)
    return HealthReport(issues)


def check_supported(key: str, tensor: torch.Tensor) -> None:
    """Raises UnsupportedTensorError where nothing can be said of the tensor's values."""
    if tensor.is_meta:
        raise UnsupportedTensorError(f"{key}: expected a tensor with values, got one on the meta device")
    if tensor.is_quantized:
        raise UnsupportedTensorError(f"{key}: expected a floating-point tensor, got a quantised one ({tensor.dtype})")


def find_issue(key: str, tensor: torch.Tensor, group: Group) -> Iterator[Issue]:
    """The tensor's fault, if it has one. NaN is named before Inf, Inf before a negative variance."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.numel() == 0 or tensor.is_meta:
        return
    with torch.no_grad():
        here = local_part(tensor.detach())  # each rank answers for what it holds, and waits for nobody
        flat = here.coalesce().values() if here.is_sparse else here
        negative = group == "statistics" and key.endswith("running_var") and not flat.is_complex()
        bad = ~torch.isfinite(flat) | (flat < 0) if negative else ~torch.isfinite(flat)
        if group == "weights" and is_mask(key):
            bad = torch.isnan(flat)
        count = int(bad.sum())
        if count:
            first = tuple(int(i) for i in bad.nonzero()[0])
            kinds = _kinds(flat[bad])
            kind = next(k for k in _KINDS if any(name.endswith(k) for name in kinds))
            yield Issue(key, kind, count, flat.numel(), first, group, kinds)


def is_mask(key: str) -> bool:
    """Whether a tensor's name says that minus infinity is at home in it: attention masks kept as buffers."""
    return "mask" in key.rpartition(".")[2].lower()


_KINDS: tuple[Kind, ...] = ("nan", "inf", "negative variance")  # the worst first


def _kinds(bad: torch.Tensor) -> dict[str, int]:
    """How many of the bad elements are what."""
    nan, infinite = torch.isnan(bad), torch.isinf(bad)
    if bad.is_complex():
        masks = {"nan": nan, "inf": infinite & ~nan}
    else:
        below = bad < 0
        masks = {
            "nan": nan,
            "+inf": infinite & ~below,
            "-inf": infinite & below,
            "negative variance": below & ~infinite,
        }
    return {name: number for name, mask in masks.items() if (number := int(mask.sum()))}


def _tensors(model: nn.Module, check_weights: bool) -> Iterator[tuple[str, torch.Tensor, Group]]:
    for prefix, module in model.named_modules():
        statistics = statistics_of(module)
        for name, buffer in module._buffers.items():
            if buffer is None or isinstance(buffer, UninitializedBuffer):
                continue
            if name in statistics:
                yield clean_name(prefix, name), buffer, "statistics"
            elif check_weights:
                yield clean_name(prefix, name), buffer, "weights"
    if check_weights:
        for name, parameter in model.named_parameters():
            if not isinstance(parameter, UninitializedParameter):
                yield clean_name("", name), parameter, "weights"


def _optimizer_issues(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Issue]:
    """State is named by the parameter it belongs to; lists of tensors, as LBFGS keeps them, by their place."""
    names = {id(parameter): clean_name("", name) for name, parameter in model.named_parameters()}
    for parameter, state in optimizer.state.items():
        for slot, value in state.items():
            tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]
            for i, tensor in enumerate(tensors):
                place = f"{slot}.{i}" if len(tensors) > 1 else slot
                yield from find_issue(f"optimizer.{names.get(id(parameter), '?')}.{place}", tensor, "optimizer")
