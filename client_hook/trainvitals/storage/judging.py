"""Which tensors of a state are corrupt, what they are called, and how corrupt statistics in it are made good.

Tensors are judged; numbers are not: a loss or a metric that is NaN is what was measured, and a history of them is not
a corrupt model. So Python's and numpy's numbers and arrays pass, and so does a tensor without dimensions that stands
at the top of the state.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from trainvitals.repair.health import Group, Issue, find_issue

_MEAN, _VAR = "running_mean", "running_var"


def state_issues(state: Mapping[str, Any]) -> Iterator[Issue]:
    """Every corrupt tensor of a checkpoint's state, in its order: non-finite, or a negative running variance. Keys of
    its `model` are named as the model names them, all others by their place."""
    measured = not all(isinstance(value, torch.Tensor) for value in state.values())  # else: one state dict
    for name, value in state.items():
        if measured and isinstance(value, torch.Tensor) and value.ndim == 0:
            continue
        model = name == "model" and isinstance(value, Mapping)
        yield from tensor_issues(value, "" if model else str(name), in_optimizer=str(name).startswith("optimizer"))


def tensor_issues(value: Any, key: str = "", *, in_optimizer: bool = False) -> Iterator[Issue]:
    """Every corrupt tensor in `value`, however nested; `key` is the name of the place it has."""
    if isinstance(value, torch.Tensor):
        yield from find_issue(key, value, _group(key, in_optimizer))
        return
    inner: Any = ()
    if isinstance(value, Mapping):
        inner = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    for name, item in inner:
        yield from tensor_issues(item, f"{key}.{name}".removeprefix("."), in_optimizer=in_optimizer)


def heal_statistics(state: Any, donor: Any = None) -> tuple[Any, list[str]]:
    """A copy of a state dict, or of several by name, with its corrupt statistics made good, and the names of the
    layers they are of; the tensors given stay as they are. Channel by channel from `donor`, a state of the same shape,
    where that is given and good; else mean 0, variance 1."""
    healed, layers = _copy(state), []
    for name, value in state.items():
        if isinstance(value, Mapping):
            healed[name], inner = heal_statistics(value, donor.get(name) if isinstance(donor, Mapping) else None)
            layers += [f"{name}.{layer}".removesuffix(".") for layer in inner]
    corrupt = {key.rpartition(".")[0]: None for key, value in state.items() if _is_corrupt(key, value)}
    for layer in corrupt:
        healed.update(_healed_layer(state, f"{layer}.".removeprefix("."), donor))
    return healed, layers + list(corrupt)


def _healed_layer(state: Mapping[str, Any], prefix: str, donor: Any) -> dict[str, torch.Tensor]:
    """Mean and variance of a layer, as far as it has them; a channel is replaced in both."""
    parts = {name: state[prefix + name] for name in (_MEAN, _VAR) if isinstance(state.get(prefix + name), torch.Tensor)}
    good = _donated(parts, prefix, donor)
    made = {}
    for name, values in parts.items():
        default = torch.full_like(values, float(name == _VAR))
        if good is not None:
            default = torch.where(_bad(good, name), default, good[name].to(values))
        made[prefix + name] = torch.where(_bad(parts, name), default, values)
    return made


def _donated(parts: Mapping[str, torch.Tensor], prefix: str, donor: Any) -> dict[str, torch.Tensor] | None:
    """The donor's statistics of that layer; an averaged copy's names begin with `module.`."""
    if not isinstance(donor, Mapping):
        return None
    found = {name: donor.get(prefix.removeprefix("module.") + name) for name in parts}
    good = {
        name: one for name, one in found.items() if isinstance(one, torch.Tensor) and one.shape == parts[name].shape
    }
    return good if len(good) == len(parts) else None


def _bad(parts: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    """The channels of `name` to replace: those that are bad in either statistic."""
    bad = torch.zeros_like(parts[name], dtype=torch.bool)
    for other, values in parts.items():
        if values.shape == bad.shape:
            bad |= ~torch.isfinite(values)
            if other == _VAR and not values.is_complex():
                bad |= values < 0
    return bad


def _is_corrupt(key: Any, value: Any) -> bool:
    statistic = isinstance(value, torch.Tensor) and _group(str(key), False) == "statistics"
    return statistic and any(find_issue(str(key), value, "statistics"))


def _copy(state: Mapping[str, Any]) -> dict[str, Any]:
    """With the versions that a state dict carries."""
    if not isinstance(state, OrderedDict):
        return dict(state)
    copied = OrderedDict(state)
    copied.__dict__.update(state.__dict__)
    return copied


def _group(key: str, in_optimizer: bool) -> Group:
    if in_optimizer:
        return "optimizer"
    return "statistics" if key.rpartition(".")[2] in (_MEAN, _VAR) else "weights"
