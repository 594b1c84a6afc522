"""How far the inputs of sampled layers are from overflowing fp16: 65504 / amax of the input after its cast.

Hooks exist for the sampled step alone. Only layers known to compute in fp16 are measured: their input or their weight
is fp16, or autocast to fp16 is on. 0 means it has already overflowed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from trainvitals import wire
from trainvitals.hooks import listen
from trainvitals.probes.guard import Guard
from trainvitals.record.columns import Columns
from trainvitals.record.transfer import Part

LIMIT = 256  # layers measured at most
_CONVOLUTIONS = nn.modules.conv._ConvNd
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


class Headroom:
    """Measures `modules` (pairs of name and module) in the steps for which it is armed."""

    name = "headroom"

    def __init__(self, modules: Sequence[tuple[str, nn.Module]], columns: Columns, guard: Guard) -> None:
        self._guard = guard
        kept = [pair for pair in modules if isinstance(pair[1], (_CONVOLUTIONS, nn.Linear, *_NORMS))]
        stride = -(-len(kept) // LIMIT) if kept else 1
        self._modules = kept[::stride]
        self.layers = [name for name, _ in self._modules]
        self.columns = columns.add_all(self.layers, wire.INPUT, wire.HEADROOM)
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._seen: dict[int, torch.Tensor] = {}

    def arm(self) -> None:
        """Measure the forwards from now to the next `collect`."""
        self.disarm()
        self._handles = [listen(self, module, i) for i, (_, module) in enumerate(self._modules)]

    def on_forward(self, module: nn.Module, args: tuple[Any, ...], place: int) -> None:
        """Keep the largest input magnitude of one layer."""
        if self._guard.inside or not torch.is_grad_enabled():
            return
        if self._handles and self._modules[place][1] is module:
            self._guard.run(self.name, lambda: self._measure(module, args, place), None)

    def disarm(self) -> None:
        """Remove the hooks and forget what was seen."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._seen.clear()

    def collect(self) -> list[Part]:
        """What was measured since `arm`; the hooks are gone afterwards."""
        seen = dict(self._seen)
        self.disarm()
        parts: dict[torch.device, list[int]] = {}
        for i, value in seen.items():
            parts.setdefault(value.device, []).append(i)
        return [
            Part(self.columns[np.array(places, dtype=np.intp)], wire.FP16_MAX / torch.stack([seen[i] for i in places]))
            for places in parts.values()
        ]

    @torch.no_grad()
    def _measure(self, module: nn.Module, args: tuple[Any, ...], place: int) -> None:
        amax = _amax(module, args)
        if amax is not None:
            seen = self._seen.get(place)
            self._seen[place] = amax if seen is None else torch.maximum(seen, amax)


def _amax(module: nn.Module, args: tuple[Any, ...]) -> torch.Tensor | None:
    """The largest magnitude of the module's input, as fp16 would hold it (a rounding cast is monotone, so it is enough
    to cast the maximum); None where it is not computed in fp16."""
    value = args[0] if args and isinstance(args[0], torch.Tensor) else None
    if value is None or not value.is_floating_point() or value.numel() == 0 or not _computes_in_fp16(module, value):
        return None
    low, high = value.detach().aminmax()
    return torch.maximum(low.abs(), high.abs()).half().float()


def _computes_in_fp16(module: nn.Module, value: torch.Tensor) -> bool:
    if value.dtype == torch.float16:
        return True
    if isinstance(module, _NORMS):
        return False  # autocast runs norms in the precision of what they are given
    device = value.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device) == torch.float16
    return any(parameter.dtype == torch.float16 for parameter in module.parameters(recurse=False))
