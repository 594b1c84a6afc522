"""Running statistics of all layers: ranges of mean and variance, non-finite and negative channels, and how far the last
batch lay from them.

Each reading is one vector, and two in a row invert the moving average: the batch's own mean is
(rm_t - (1 - momentum) * rm_{t-1}) / momentum, without a forward hook. With k updates in between, and always with a
momentum that adds up to the same weight, it is a weighted mean of the k batches.
"""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch

from trainvitals import wire
from trainvitals.layers import Norm
from trainvitals.probes.ranges import ranges_on
from trainvitals.probes.updates import Updates, counts_updates
from trainvitals.record.columns import Columns
from trainvitals.record.transfer import Index, Part

Range = tuple[float, float]


class Statistics:
    """Reads the running statistics of `norms`, all of them on one device."""

    name = "statistics"

    def __init__(self, norms: Sequence[Norm], columns: Columns) -> None:
        self.norms = [norm for norm in norms if norm.mean.numel()]
        self.channels = [norm.mean.numel() for norm in self.norms]
        self._buffers = [norm.module._buffers for norm in self.norms]
        self._flat = all(norm.mean.dim() == 1 for norm in self.norms)
        layers = [norm.name for norm in self.norms]
        self.columns = {stat: columns.add_all(layers, wire.NORM, stat) for stat in wire.NORM_STATS}
        self._index = _index(np.concatenate([self.columns[stat] for stat in wire.NORM_STATS]))
        self._counted = np.array([counts_updates(norm.module) for norm in self.norms], dtype=np.bool_)
        self._shift_columns = np.full(len(layers), -1, dtype=np.intp)
        counted = [layer for layer, one in zip(layers, self._counted, strict=True) if one]
        self._shift_columns[self._counted] = columns.add_all(counted, wire.NORM, wire.BATCH_SHIFT)
        self._half = np.array([i for i, n in enumerate(self.norms) if n.var.dtype == torch.float16], dtype=np.intp)
        self._room_columns = columns.add_all([layers[i] for i in self._half], wire.NORM, wire.VAR_ROOM)
        self._updates = Updates([norm.module for norm in self.norms])
        self._eps = [float(getattr(norm.module, "eps", 0.0)) for norm in self.norms]
        self._slack = [_slack(norm) for norm in self.norms]
        self._settle_on(self.norms[0].mean.device if self.norms else torch.device("cpu"))

    def _settle_on(self, device: torch.device) -> None:
        """Nothing read on another device is compared with what will be read on this one."""
        self._device = device
        self._ranges = ranges_on(device, self.channels, self._eps, self._slack)
        self._selected: tuple[bytes, Index, torch.Tensor | None] = b"", self._index, None
        self._now: torch.Tensor | None = None
        self._before: torch.Tensor | None = None
        self._sound: npt.NDArray[np.bool_] | None = None  # layers finite at the reading before; None: not known

    @torch.no_grad()
    def read(self) -> tuple[list[Part], torch.Tensor]:
        """The parts, and all statistics as one new float32 vector [2 * channels]: means, then variances."""
        if not self.norms:
            return [], torch.zeros(0)
        values = self._gather()
        self._updates.advance()
        if values.device != self._device:
            self._settle_on(values.device)
        self._before, self._now = self._now, values
        ranges = self._ranges.of(values)
        parts = [Part(self._index, ranges), *self._read_shift(values, ranges)]
        if len(self._half):
            parts += self._read_room(ranges)
        return parts, values

    def take_over(self, earlier: "Statistics") -> None:
        """Go on counting where the layers are those of `earlier`."""
        mine, theirs = ([(norm.name, id(norm.module)) for norm in one.norms] for one in (self, earlier))
        if mine == theirs and self.channels == earlier.channels:
            self._updates, self._sound = earlier._updates, earlier._sound
            self._before, self._now = earlier._before, earlier._now

    def forget(self, layers: Collection[str]) -> None:
        """The statistics of these layers were written, not trained: by a load or a repair. May wait for the device."""
        self._updates.forget([i for i, norm in enumerate(self.norms) if norm.name in layers])

    @torch.no_grad()
    def batch_range(self, layer: str) -> tuple[Range, Range] | None:
        """Smallest and largest channel of the mean and of the (unbiased) variance of the batch of the last reading, by
        de-averaging; of several batches since the reading before their weighted mean. None where it is not known. Waits
        for the device."""
        place = next((i for i, norm in enumerate(self.norms) if norm.name == layer), None)
        if place is None or self._before is None or self._now is None or not self._updates.known[place]:
            return None
        begin = sum(self.channels[:place])
        where = slice(begin, begin + self.channels[place])
        then, now = (pair.view(2, -1)[:, where].double() for pair in (self._before, self._now))
        batch = then + (now - then) / float(self._updates.weights[place])
        (mean_low, var_low), (mean_high, var_high) = batch.amin(1).tolist(), batch.amax(1).tolist()
        return (mean_low, mean_high), (var_low, var_high)

    def _gather(self) -> torch.Tensor:
        buffers = [b["running_mean"] for b in self._buffers] + [b["running_var"] for b in self._buffers]
        if not self._flat:
            buffers = [buffer.flatten() for buffer in buffers if buffer is not None]
        return torch.cat(buffers).float()  # type: ignore[arg-type]

    def _read_shift(self, values: torch.Tensor, ranges: torch.Tensor) -> list[Part]:
        """Of the layers that are armed and whose updates are known."""
        told = self._updates.armed & self._updates.known
        if values.device.type == "cpu":
            before, self._sound = self._sound, _sound(ranges.numpy())
            told &= self._sound if before is None else self._sound & before
        if self._before is None or not told.any():
            return []
        shift = self._ranges.shift(values, self._before, self._updates.weights)
        index, chosen = self._select(told, values.device)
        return [Part(index, shift if chosen is None else shift[chosen])]

    def _select(self, told: npt.NDArray[np.bool_], device: torch.device) -> tuple[Index, torch.Tensor | None]:
        """The columns of these layers, and their places on the device unless they are all there are."""
        if self._selected[0] != (key := told.tobytes()):
            places = None if told.all() else torch.from_numpy(np.flatnonzero(told)).to(device, non_blocking=True)
            self._selected = key, _index(self._shift_columns[told]), places
        return self._selected[1:]

    def _read_room(self, ranges: torch.Tensor) -> list[Part]:
        """Of the layers whose variances are still held in fp16."""
        variances = [self._buffers[i]["running_var"] for i in self._half]
        here = np.array([var is not None and var.dtype == torch.float16 for var in variances], dtype=np.bool_)
        if not here.any():
            return []
        largest = ranges.view(len(wire.NORM_STATS), -1)[wire.NORM_STATS.index(wire.VAR_MAX)]
        chosen = torch.from_numpy(self._half[here]).to(ranges.device, non_blocking=True)
        return [Part(_index(self._room_columns[here]), wire.FP16_MAX / largest[chosen])]


def _index(columns: npt.NDArray[np.intp]) -> Index:
    """A slice where the columns follow one another: cheaper to fill."""
    first = int(columns[0]) if len(columns) else 0
    return slice(first, first + len(columns)) if (columns == first + np.arange(len(columns))).all() else columns


def _sound(ranges: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Which layers have no non-finite and no negative-variance channel."""
    nonfinite, negative = ranges.reshape(len(wire.NORM_STATS), -1)[4:]
    sound: npt.NDArray[np.bool_] = (nonfinite <= 0) & (negative <= 0)
    return sound


def _slack(norm: Norm) -> float:
    """How much of a running mean rounding may account for, where that shows after de-averaging."""
    coarse = norm.mean.dtype in (torch.float16, torch.bfloat16)
    cumulative = getattr(norm.module, "momentum", 0.0) is None
    return torch.finfo(norm.mean.dtype).eps if coarse or cumulative else 0.0
