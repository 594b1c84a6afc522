"""Tensors in whatever a loss or an output is made of."""

from typing import Any

import torch


def floating_tensors(value: Any) -> list[torch.Tensor]:
    """The floating-point tensors in a loss or output, however nested; plain numbers as tensors."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() or value.is_complex() else []
    if isinstance(value, float | int):
        return [torch.tensor(float(value))]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in floating_tensors(item)]
    return []
