"""Checkpoint files for tests: corrupt models, and safetensors written by hand, after the format's description."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from loops import small_net

NAMES = {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16", torch.float16: "F16"}


def broken_net() -> nn.Sequential:
    """A small net with a NaN in the mean of layer 1 and an Inf in the variance of layer 4."""
    model = small_net()
    model[1].running_mean[2] = float("nan")
    model[4].running_var[3] = float("inf")
    return model


def write_safetensors(path: Path, state: Mapping[str, torch.Tensor], header: bytes | None = None) -> None:
    """Eight bytes of length, a JSON header, the tensors one after another; `header` instead of the right one."""
    entries, data = {}, b""
    for key, tensor in state.items():
        raw = (
            tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
            if tensor.ndim
            else tensor.numpy().tobytes()
        )
        entries[key] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode() if header is None else header
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
