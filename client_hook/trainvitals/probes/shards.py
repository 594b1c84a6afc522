"""Sharded parameters: what this process holds of them, and whether it counts.

FSDP (`fully_shard`) and tensor parallelism keep parameters, gradients and optimizer state as DTensors: a local tensor,
and how the whole is laid out over the mesh. Any operation on a DTensor may communicate; taking its local tensor does
not, so that is all that is ever done here. FSDP of the first kind keeps flat parameters, each of which holds this
process's part of a whole unit: their names and norms are the unit's. (With `use_orig_params=True` it gives no gradient
to hook, and none is recorded.) The squared norms of the shards add up to that of the whole as long as each part is
counted once: where the layout repeats a part, only its first holder counts.
"""

import sys
from collections.abc import Sequence

import torch


def is_sharded(tensors: Sequence[torch.Tensor]) -> bool:
    """Whether norms of these are sums over several processes."""
    return any(_is_dtensor(tensor) or _is_flat(tensor) for tensor in tensors)


@torch.no_grad()
def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a DTensor; any other tensor itself."""
    return tensor.to_local() if _is_dtensor(tensor) else tensor  # type: ignore[attr-defined]


def counts_here(tensor: torch.Tensor, leads: bool) -> bool:
    """Whether this process is the one that counts its part: the first of those that hold the same. An ordinary tensor
    among sharded ones is the same everywhere, and counts where `leads` is true."""
    if not _is_dtensor(tensor):
        return leads or _is_flat(tensor)
    where = tensor.device_mesh.get_coordinate()  # type: ignore[attr-defined]
    if where is None:
        return False
    placements = tensor.placements  # type: ignore[attr-defined]
    return all(place == 0 for place, laid in zip(where, placements, strict=True) if not laid.is_shard())


def square(norms: torch.Tensor, repeated: Sequence[bool]) -> torch.Tensor:
    """The squares of norms [n], 0 for those that another process counts."""
    squares = norms.square()
    if any(repeated):
        squares = squares * torch.tensor([not one for one in repeated], dtype=squares.dtype).to(
            squares.device, non_blocking=True
        )
    return squares


def is_whole(tensor: torch.Tensor) -> bool:
    """False for sums that other processes have still to be added to: of those no norm is known."""
    return not _is_dtensor(tensor) or not any(laid.is_partial() for laid in tensor.placements)  # type: ignore[attr-defined]


def _is_dtensor(tensor: torch.Tensor) -> bool:
    """The module is asked only where somebody has imported it, without which there can be none."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _is_flat(tensor: torch.Tensor) -> bool:
    """A `FlatParameter`, by the mark that it bears."""
    return bool(getattr(tensor, "_is_flat_param", False))
