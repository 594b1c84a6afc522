"""The random generators of a run, taken down and put back."""

import random
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch


def rng_state() -> dict[str, Any]:
    """The state of the generators of torch (CPU and every CUDA device), numpy and Python, in weights-only types."""
    name, keys, position, has_gauss, gauss = cast("tuple[str, Any, int, int, float]", np.random.get_state())
    version, numbers, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(numbers), gauss_next],
        "numpy": [name, torch.from_numpy(keys.astype("int64")), position, has_gauss, gauss],
    }


def restore_rng_state(state: Mapping[str, Any]) -> None:
    """Put back what `rng_state` took, wherever `map_location` has put its tensors; of CUDA devices those that exist
    now. Raises KeyError, TypeError, ValueError or RuntimeError for anything else, possibly halfway."""
    version, numbers, gauss_next = state["python"]
    name, keys, position, has_gauss, gauss = state["numpy"]
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, one in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(one.cpu(), device)
    random.setstate((version, tuple(numbers), gauss_next))
    np.random.set_state((name, keys.cpu().numpy().astype("uint32"), position, has_gauss, gauss))
