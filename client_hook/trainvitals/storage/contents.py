"""What may lie in a checkpoint: types that torch's weights-only loader accepts, and nothing else."""

import argparse
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import nn

from trainvitals.errors import CheckpointError

# What the loader takes as it is (torch 2.13); exact types, since it refuses their subclasses.
_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, torch.Size, torch.dtype, torch.device)
_TENSORS = (torch.Tensor, nn.Parameter)
_NUMBERS: dict[str, Any] = {"b": bool, "i": int, "u": int, "f": float, "c": complex}  # numpy's kinds


def storable(value: Any, key: str = "", *, strict: bool = True) -> Any:
    """`value` as types that load weights-only: numbers of numpy become Python's, arrays tensors, a Namespace or a
    defaultdict a dict, paths text. What has no such form raises CheckpointError naming its place, or becomes its text
    where `strict` is off."""
    if type(value) in _PLAIN or type(value) in _TENSORS:
        return value
    if isinstance(value, Mapping | argparse.Namespace):
        return _mapping(value if isinstance(value, Mapping) else vars(value), key, strict)
    if isinstance(value, list | tuple | set | frozenset):
        items = [storable(item, _join(key, i), strict=strict) for i, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items if isinstance(value, list) else set(items)
    return _leaf(value, key, strict)


def _mapping(value: Mapping[Any, Any], key: str, strict: bool) -> dict[Any, Any]:
    made: dict[Any, Any] = (OrderedDict if isinstance(value, OrderedDict) else dict)(
        (_key(name, key, strict), storable(item, _join(key, name), strict=strict)) for name, item in value.items()
    )
    if isinstance(made, OrderedDict) and hasattr(value, "_metadata"):  # the versions of a state dict's modules
        made.__dict__["_metadata"] = storable(value._metadata, key, strict=strict)
    return made


def _key(name: Any, key: str, strict: bool) -> Any:
    plain = storable(name, f"{key}, one of its keys", strict=strict)
    return str(plain) if isinstance(plain, torch.Tensor) else plain


def _leaf(value: Any, key: str, strict: bool) -> Any:  # noqa: PLR0911 - one line per kind
    if isinstance(value, torch.Tensor):  # torch knows its own subclasses; one of the user's becomes a tensor
        ours = type(value).__module__.split(".")[0] == "torch"
        return value if ours else value.detach().as_subclass(torch.Tensor)
    if isinstance(value, np.ndarray) and value.dtype.kind in _NUMBERS:
        return torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))
    if isinstance(value, np.generic) and value.dtype.kind in _NUMBERS:
        return _NUMBERS[value.dtype.kind](value)
    if isinstance(value, str):  # text, numbers: enumerations and numpy's own kinds
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, PurePath) or not strict:
        return str(value)
    hint = "; give its state_dict()" if hasattr(value, "state_dict") else ""
    raise CheckpointError(
        f"{key or 'state'}: expected tensors, numbers, text and containers of them, got {type(value).__name__}{hint}"
    )


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}".removeprefix(".")
