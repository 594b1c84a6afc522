"""Tensors in whatever a loss or an output is made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from trainvitals.probes.shards import local_part


def floating_tensors(value: Any) -> list[torch.Tensor]:
    """The floating-point tensors in a loss or output, however nested; plain numbers as tensors."""
    return [tensor for tensor in tensors(value) if tensor.is_floating_point() or tensor.is_complex()]


def tensors(value: Any) -> list[torch.Tensor]:
    """Every tensor in a loss or output, however nested; plain numbers, numpy's and arrays as tensors. Of one that is
    distributed, what this process holds."""
    if isinstance(value, torch.Tensor):
        return [local_part(value)]
    if isinstance(value, float | int):
        return [torch.tensor(float(value))]
    if isinstance(value, np.generic | np.ndarray):
        return [torch.from_numpy(np.array(value))] if value.dtype.kind in "biufc" else []
    if isinstance(value, Mapping):
        value = list(value.values())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, field.name) for field in dataclasses.fields(value)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in tensors(item)]
    return []
