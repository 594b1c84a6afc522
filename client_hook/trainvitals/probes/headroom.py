"""How far the inputs of sampled layers are from overflowing fp16: 65504 / amax of the input after its cast.

Hooks exist for the sampled step alone. Only layers known to compute in fp16 are measured: their input or their weight
is fp16, or autocast to fp16 is on. 0 means it has already overflowed.

Which layers a step samples follows what the last samples showed, so that a ramp is seen while there is time and a calm
run pays little: all of them every `ALL` steps, the `FEW` with the least headroom every `OFTEN` steps, and in every step
the `FEW` lowest of those that have fallen to half since all were last sampled. An input that doubles every 2 steps
takes 28 from a headroom of `SAFE` to its overflow; above that there is time until the next sample.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trainvitals import wire
from trainvitals.hooks import listen
from trainvitals.probes.guard import Guard
from trainvitals.record.columns import Columns
from trainvitals.record.transfer import Part

LIMIT = 256  # layers measured at most
ALL = 20  # steps; health rule 1
OFTEN = 5
FEW = 4  # layers
SAFE = 16384.0
_CONVOLUTIONS = nn.modules.conv._ConvNd
Extremes = tuple[torch.Tensor, torch.Tensor]  # smallest and largest element, each 0-d
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
        self._handles: dict[int, RemovableHandle] = {}  # by place, for the step that is armed
        self._silent: dict[int, RemovableHandle] = {}  # of layers that were not called in it
        self._called: set[int] = set()
        self._seen: dict[int, Extremes] = {}
        self._newest = np.full(len(kept[::stride]), np.inf)  # headroom when last sampled
        self._reference = self._newest.copy()  # and when all were last sampled
        self._last = -1  # the step before which it was last asked; not every step is observed

    def arm(self, count: int) -> None:
        """After `count` steps: measure the forwards from now to the next `collect`, of the layers whose turn it is."""
        self.disarm()
        due = [place for place in self._due(count) if place not in self._silent]
        self._handles = {place: listen(self, self._modules[place][1], place) for place in due}

    def note(self, place: int, value: float) -> None:
        """A sample of the layer at `place` has arrived."""
        self._newest[place] = value if np.isfinite(value) else 0.0

    def _due(self, count: int) -> list[int]:
        """The places to sample in the step after `count` steps."""
        if count // ALL > self._last // ALL:
            self._last = count
            self._reference = self._newest.copy()
            return list(range(len(self._modules)))
        often, self._last = count // OFTEN > self._last // OFTEN, count
        return (self._lowest(np.isfinite(self._newest)) if often else []) or self._lowest(self._falling())

    def _falling(self) -> npt.NDArray[np.bool_]:
        known = np.isfinite(self._reference)
        fallen: npt.NDArray[np.bool_] = known & (self._newest < SAFE) & (self._newest <= self._reference / 2)
        return fallen

    def _lowest(self, among: npt.NDArray[np.bool_]) -> list[int]:
        places = np.flatnonzero(among)
        return sorted(places[np.argsort(self._newest[places], kind="stable")[:FEW]].tolist())

    def on_forward(self, module: nn.Module, args: tuple[Any, ...], place: int) -> None:
        """Keep the largest input magnitude of one layer."""
        if self._modules[place][1] is not module or not torch.is_grad_enabled():
            return
        if place in self._silent:
            self._silent.pop(place).remove()
        elif place in self._handles:
            self._called.add(place)
            self._guard.run(self.name, lambda: self._measure(module, args, place), None)

    def disarm(self) -> None:
        """Remove the hooks and forget what was seen. A hook that was not called stays: its layer may be part of what
        was compiled since, where taking it away would cost another compilation."""
        for place, handle in self._handles.items():
            if place in self._called:
                handle.remove()
            else:
                self._silent[place] = handle
        self._handles.clear()
        self._called.clear()
        self._seen = {}

    def detach(self) -> None:
        """Remove every hook."""
        self.disarm()
        for handle in self._silent.values():
            handle.remove()
        self._silent.clear()

    @torch.no_grad()
    def collect(self) -> list[Part]:
        """What was measured since `arm`."""
        seen = self._seen
        self.disarm()
        by_device: dict[torch.device, list[int]] = {}
        for place, (low, _) in seen.items():
            by_device.setdefault(low.device, []).append(place)
        return [self._part(places, [seen[place] for place in places]) for places in by_device.values()]

    def _part(self, places: list[int], extremes: list[Extremes]) -> Part:
        low, high = (torch.stack([one.float() for one in side]) for side in zip(*extremes, strict=True))
        amax = torch.maximum(-low, high).half().float()  # a rounding cast is monotone: it is enough to cast this
        return Part(self.columns[np.array(places, dtype=np.intp)], wire.FP16_MAX / amax)

    @torch.no_grad()
    def _measure(self, module: nn.Module, args: tuple[Any, ...], place: int) -> None:
        extremes, seen = _extremes(module, args), self._seen.get(place)
        if extremes is not None and seen is not None:
            extremes = torch.minimum(extremes[0], seen[0]), torch.maximum(extremes[1], seen[1])
        if extremes is not None:
            self._seen[place] = extremes


def _extremes(module: nn.Module, args: tuple[Any, ...]) -> Extremes | None:
    """Smallest and largest element of the module's input; None where it is not computed in fp16."""
    value = args[0] if args and isinstance(args[0], torch.Tensor) else None
    if value is None or not value.is_floating_point() or value.numel() == 0 or not _computes_in_fp16(module, value):
        return None
    low, high = value.detach().aminmax()
    return low, high


def _computes_in_fp16(module: nn.Module, value: torch.Tensor) -> bool:
    if value.dtype == torch.float16:
        return True
    if isinstance(module, _NORMS):
        return False  # autocast runs norms in the precision of what they are given
    device = value.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device) == torch.float16
    return any(parameter.dtype == torch.float16 for parameter in module.parameters(recurse=False))
