"""Reading a checkpoint, and putting it into models, optimizers and what goes with them.

Everything is compared before anything is loaded, so that a checkpoint of another network changes nothing.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from trainvitals.errors import CheckpointError
from trainvitals.layers import unwrap

# Under which names a part is looked for: ours, those of torch's own tutorials, Lightning's.
NAMES = {
    "model": ("model", "state_dict", "model_state_dict"),
    "optimizer": ("optimizer", "optimizer_state_dict", "optimizer_states"),
    "scaler": ("scaler", "scaler_state_dict"),
    "scheduler": ("scheduler", "scheduler_state_dict", "lr_schedulers"),
    "ema": ("ema", "ema_state_dict"),
}
NAMED = 3  # keys named in an error

Plan = list[tuple[str, str, Any, Any]]  # part, key within it, the object, the state it is to load


def read(path: Path, map_location: Any) -> dict[str, Any]:
    """The dict in a checkpoint file, by torch's weights-only loader. Raises CheckpointError."""
    try:
        loaded = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises whatever the bytes led it to
        raise CheckpointError(f"{path}: expected a checkpoint that loads weights-only, got: {_why(error)}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: expected a checkpoint holding a dict, got {type(loaded).__name__}")
    return loaded


def make_plan(state: Mapping[str, Any], targets: Mapping[str, Any]) -> tuple[Plan, tuple[str, ...]]:
    """What goes where, compared; and the parts that the file lacks."""
    plan: Plan = []
    missing = []
    for part, target in targets.items():
        found = find_part(state, part)
        if found is None and part == "model":
            raise CheckpointError(f"expected the state of a model, got a file holding {', '.join(map(str, state))}")
        if found is None:
            missing.append(part)
            continue
        for key, one, its in pairs(part, target, found):
            place = f"{part}.{key}".removesuffix(".")
            if isinstance(one, nn.Module):
                its = fit_model(one, its, place)  # noqa: PLW2901 - the same state under the model's names
            elif part == "optimizer":
                check_optimizer(one, its, place)
            plan.append((part, key, one, its))
    return plan, tuple(missing)


def find_part(state: Mapping[str, Any], part: str) -> Any:
    """The state of `part`, or None. A state that holds nothing but tensors is itself a model's."""
    for name in NAMES[part]:
        found = state.get(name)
        if found is not None and (part == "model" or found != {}):  # a disabled scaler's is empty
            return found
    plain = part == "model" and state and all(isinstance(value, torch.Tensor) for value in state.values())
    return state if plain else None


def pairs(part: str, target: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """(key, object, its state) of one target, or of several given by name or in order. Raises CheckpointError where
    the state is not that of the same names."""
    if not isinstance(target, Mapping | list | tuple):
        yield "", target, found[0] if isinstance(found, list) and len(found) == 1 else found  # Lightning's
        return
    targets = dict(target) if isinstance(target, Mapping) else dict(enumerate(target))
    states = dict(enumerate(found)) if isinstance(found, list | tuple) else found
    if not isinstance(states, Mapping) or states.keys() != targets.keys():
        came = _some(states) if isinstance(states, Mapping) else type(states).__name__
        raise CheckpointError(f"{part}: expected the states of {_some(targets)}, got {came}")
    for key, one in targets.items():
        yield str(key), one, states[key]


def fit_model(model: nn.Module, found: Any, part: str = "model") -> dict[str, Any]:
    """`found` under the names of the model, which may differ by wrappers (`module.`, `_orig_mod.`) or by one prefix of
    all. Raises CheckpointError naming what lacks, what is unknown and what has another shape."""
    own = unwrap(model).state_dict()
    if not isinstance(found, Mapping) or (own and not any(isinstance(v, torch.Tensor) for v in found.values())):
        came = f"those of {_some(found)}" if isinstance(found, Mapping) else type(found).__name__
        raise CheckpointError(f"{part}: expected the state of one {type(unwrap(model)).__name__}, got {came}")
    renamed = _renamed(own, found)
    if any(module._load_state_dict_pre_hooks for module in model.modules()):
        return renamed  # it has its own way with names
    wrong = [
        *(f"lacks {_some(lack)}" for lack in [own.keys() - renamed.keys()] if lack),
        *(f"has unknown {_some(more)}" for more in [renamed.keys() - own.keys()] if more),
        *_shapes(own, renamed),
    ]
    if wrong:
        name = type(unwrap(model)).__name__
        raise CheckpointError(f"{part}: expected the {len(own)} tensors of {name}, got a state that {'; '.join(wrong)}")
    return renamed


def check_optimizer(optimizer: Any, found: Any, part: str = "optimizer") -> None:
    """Raises CheckpointError where the parameter groups are not of the same sizes."""
    if not isinstance(optimizer, torch.optim.Optimizer):
        return
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    groups = found.get("param_groups") if isinstance(found, Mapping) else None
    came = [len(group["params"]) for group in groups] if groups is not None else type(found).__name__
    if came != sizes:
        raise CheckpointError(f"{part}: expected parameter groups of {sizes} parameters, got {came}")


def put(target: Any, state: Any, part: str) -> None:
    """`target.load_state_dict(state)`. Raises CheckpointError in one line."""
    try:
        (unwrap(target) if isinstance(target, nn.Module) else target).load_state_dict(state)
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        lines = " ".join(str(error).split())
        raise CheckpointError(
            f"{part}: expected a state of {type(target).__name__}, got one refused: {lines}"
        ) from error


def _renamed(own: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `found` as `own` has them."""
    names = {_clean(key): key for key in own}
    for keys in _readings([str(key) for key in found]):
        if set(keys) == set(names):
            return _with_metadata(found, [names[key] for key in keys])
    return _with_metadata(found, [names.get(_clean(key), key) for key in map(str, found)])


def _readings(keys: list[str]) -> Iterator[list[str]]:
    """The names a file may mean: without torch.compile's part, and without up to two prefixes that all share."""
    now = [_clean(key) for key in keys]
    for _ in range(3):
        yield now
        heads = {key.partition(".")[0] for key in now}
        if len(heads) != 1 or not all("." in key for key in now):
            return
        now = [key.partition(".")[2] for key in now]


def _with_metadata(found: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """The versions of modules go by their names, so they only fit a state whose names did not change."""
    if keys == list(found):
        return found if isinstance(found, dict) else dict(found)
    return dict(zip(keys, found.values(), strict=True))


def _clean(key: str) -> str:
    return ".".join(part for part in key.split(".") if part != "_orig_mod")


def _shapes(own: Mapping[str, Any], came: Mapping[str, Any]) -> Iterator[str]:
    for key, one in own.items():
        other = came.get(key)
        if not isinstance(one, torch.Tensor) or not isinstance(other, torch.Tensor) or is_lazy(one) or is_lazy(other):
            continue
        if one.shape != other.shape:
            yield f"has {key} of shape {list(other.shape)} where {list(one.shape)} belongs"


def _some(keys: Any) -> str:
    named = sorted(map(str, keys))
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return ", ".join(repr(key) for key in named[:NAMED]) + more


def _why(error: Exception) -> str:
    """One line. torch's own names the way to run whatever the file holds, which is no advice."""
    text = str(error).strip()
    if found := re.search(r"(?:Unsupported global: GLOBAL|unsupported class) ([\w.]+)", text):
        held = found.group(1)
        return f"a file holding {held}, which only running its code could load; `trainvitals diagnose` reads it safely"
    if found := re.search(r"WeightsUnpickler error: (.+)", text):
        return found.group(1)
    return text.splitlines()[0] if text else type(error).__name__
