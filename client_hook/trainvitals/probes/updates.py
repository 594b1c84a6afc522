"""How often each layer's running averages were updated since they were last read, without asking the device.

torch counts in-place changes of every tensor on the host (`_version`). What was found by experiment, torch 2.13:

- BatchNorm in eager mode raises the version of `num_batches_tracked` by 1 per training forward and leaves that of
  `running_mean` alone, since its kernel writes past the counter. So the first counts updates (two per step under
  activation checkpointing), and a rise of the second is somebody else's write: a load, a reset, a repair.
- InstanceNorm never touches `num_batches_tracked`, and its update raises the version of `running_mean`: the other way
  round. Only a repair looks like an update there, so `forget` is told of repairs.
- Compiled by inductor both rise by 1 per update, by aot_eager both by 2. A layer of which both have risen alike in
  `STEADY` readings is taken for compiled; on the CPU its count is then read itself, elsewhere inductor's is assumed.
- DistributedDataParallel's broadcast of buffers raises neither. Ranks other than 0 take over rank 0's averages unseen,
  and what is derived there contains the difference between the two ranks' batches.
- A tensor bound anew begins at 0, so its version falls.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

BATCHES = "num_batches_tracked"
LEAST = 50  # updates before a layer is armed; health rule 2
SPANS = 5.0  # and this many times 1 / momentum
STEADY = 3  # readings

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def counts_updates(module: nn.Module) -> bool:
    """Whether it is known how `module` updates its averages: torch's own norms with statistics, and their kin."""
    return isinstance(module, nn.modules.batchnorm._NormBase) and isinstance(module._buffers.get(BATCHES), torch.Tensor)


class Updates:
    """Follows `modules`; all that is not known to count its updates stays unknown.

    After each `advance`: `known` bool [layers], whether the number of updates since the `advance` before is known and
    at least 1; `weights` float64 [layers], what weight the batches of those updates have in the averages, 1 - (1 -
    momentum)^k, or k / n where `momentum` is None (NaN where not known); `armed` bool [layers], whether the averages
    had settled before them: max(50, 5 / momentum) updates since the start, or since the last write, load or change of
    momentum.
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._fields = [vars(module) for module in modules]
        self._buffers = [module._buffers for module in modules]
        instance = [isinstance(module, nn.modules.instancenorm._InstanceNorm) for module in modules]
        names = [("running_mean", BATCHES) if one else (BATCHES, "running_mean") for one in instance]
        names = [pair if counts_updates(m) else ("", "") for pair, m in zip(names, modules, strict=True)]
        self._counter_names = [counter for counter, _ in names]
        self._marker_names = [marker for _, marker in names]
        size = len(modules)
        self._updates = np.zeros(size, dtype=np.int64)
        self._streak = np.zeros(size, dtype=np.int64)  # readings in a row in which both versions rose alike
        self._batches = np.full(size, -1, dtype=np.int64)  # num_batches_tracked of compiled layers on the CPU
        self._foreign = np.zeros(size, dtype=np.bool_)  # told of by `forget`
        self._gained: Counts = np.zeros(size, dtype=np.int64)
        self._usual = b""  # the last rise of all counters, where nothing was special about it
        self.known: Flags = np.zeros(size, dtype=np.bool_)
        self.armed: Flags = np.zeros(size, dtype=np.bool_)
        self.weights: Floats = np.full(size, np.nan)
        self._take_momenta([fields.get("momentum", 0.0) for fields in self._fields])
        counters, self._markers = self._versions()
        self._counters: Counts = np.array(counters, dtype=np.int64)
        self._take_counts(np.arange(size), wait=True)

    def advance(self) -> None:
        """The averages are being read: work out what happened to them since the last time."""
        momenta = [fields.get("momentum", 0.0) for fields in self._fields]
        (counters, markers), written = self._versions(), self._markers
        before, self._counters, self._markers = self._counters, np.array(counters, dtype=np.int64), markers
        k = self._counters - before
        self.armed = self._updates >= self._needed
        if markers != written or momenta != self._momenta or k.tobytes() != self._usual:
            self._work_out(k, np.array(markers, dtype=np.int64) - np.array(written, dtype=np.int64), momenta)
        self._updates += self._gained

    def _work_out(self, rise: Counts, moved: Counts, momenta: list[Any]) -> None:
        """All of it. Where nothing is special, the same `rise` will mean the same the next time."""
        k = rise
        if moved.any() or self._foreign.any() or (rise < 0).any() or self._streak.any():
            k = self._sort_out(rise, moved)
        if momenta != self._momenta:
            k = self._note_momenta(momenta, k)
        self._weigh(k)
        self._gained = np.maximum(k, 0)
        special = self._cumulative.any() or self._streak.any() or (k != rise).any()
        self._usual = b"" if special else rise.tobytes()

    def forget(self, layers: Collection[int] | None = None) -> None:
        """The averages of these layers (by place; None: all) were written by somebody. May wait for the device."""
        places = np.arange(len(self._buffers)) if layers is None else np.array(sorted(layers), dtype=np.intp)
        self._foreign[places] = True
        self._usual = b""
        self._take_counts(places, wait=True)

    # --- counting -------------------------------------------------------------------------------------------------

    def _versions(self) -> tuple[list[int], list[int]]:
        """Of what counts each layer's updates, and of what should not move; -1 where there is none."""
        return _versions_of(self._buffers, self._counter_names), _versions_of(self._buffers, self._marker_names)

    def _sort_out(self, k: Counts, moved: Counts) -> Counts:
        """The updates among the changes; -1 where that cannot be said, and the layer has to settle again."""
        alike = (moved == k) & (k > 0)
        self._streak = np.where(alike, self._streak + 1, np.where(moved | k, 0, self._streak))
        compiled = alike & (self._streak >= STEADY)
        self._take_counts(np.flatnonzero((moved != 0) & ~self._foreign), wait=False)
        k = self._read_batches(k, alike, compiled)
        foreign = ((moved != 0) & ~compiled) | (k < 0) | self._foreign
        self._foreign[:] = False
        return self._settle_again(foreign, k)

    def _read_batches(self, k: Counts, alike: Flags, compiled: Flags) -> Counts:
        """The true number of updates of compiled layers, where reading it waits for nothing."""
        k = k.copy()
        for place in np.flatnonzero(alike).tolist():
            batches = self._buffers[place].get(BATCHES)
            if batches is not None and batches.device.type == "cpu":
                before, self._batches[place] = int(self._batches[place]), int(batches)
                if compiled[place]:
                    rise = int(self._batches[place]) - before
                    k[place] = rise if 0 < rise <= k[place] else -1
        return k

    def _settle_again(self, layers: Flags, k: Counts) -> Counts:
        self._updates[layers] = 0
        self.armed = self.armed & ~layers
        return np.where(layers, -1, k)

    # --- weighing -------------------------------------------------------------------------------------------------

    def _weigh(self, k: Counts) -> None:
        with np.errstate(all="ignore"):
            exponential = 1.0 - (1.0 - self._momentum) ** np.maximum(k, 0)
            cumulative = k / (self._counters + self._offsets)
        weights = np.where(self._cumulative, cumulative, exponential)
        self.known = (k > 0) & np.isfinite(weights) & (weights > 0)
        self.weights = np.where(self.known, weights, np.nan)

    def _take_counts(self, places: npt.NDArray[np.intp], wait: bool) -> None:
        """For cumulative averages: how far `num_batches_tracked` is ahead of its version."""
        for place in places[self._cumulative[places]].tolist():
            batches = self._buffers[place].get(BATCHES)
            readable = isinstance(batches, torch.Tensor) and (wait or batches.device.type == "cpu")
            self._offsets[place] = float(batches) - batches._version if readable and batches is not None else np.nan

    def _take_momenta(self, momenta: list[Any]) -> None:
        self._momenta = momenta
        numbers = [float(m) if isinstance(m, float | int) else 0.0 for m in momenta]
        self._momentum: Floats = np.array(numbers, dtype=np.float64)
        self._cumulative: Flags = np.array([m is None for m in momenta], dtype=np.bool_)
        self._offsets: Floats = np.full(len(momenta), np.nan)
        with np.errstate(divide="ignore"):
            spans = np.where(self._cumulative, 0.0, SPANS / np.abs(self._momentum))
        self._needed = np.maximum(LEAST, spans)

    def _note_momenta(self, momenta: list[Any], k: Counts) -> Counts:
        """A layer whose momentum has changed settles again; which of the updates had which is not known."""
        changed = np.array([a != b for a, b in zip(momenta, self._momenta, strict=True)], dtype=np.bool_)
        offsets = self._offsets
        self._take_momenta(momenta)
        self._offsets = np.where(changed, np.nan, offsets)
        self._take_counts(np.flatnonzero(changed), wait=False)
        return self._settle_again(changed, k)


def _versions_of(buffers: Sequence[dict[str, torch.Tensor | None]], names: Sequence[str]) -> list[int]:
    found = [held.get(name) for held, name in zip(buffers, names, strict=True)]
    return [-1 if tensor is None else tensor._version for tensor in found]
