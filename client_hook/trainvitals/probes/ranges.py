"""Reductions by layer of a vector that holds all means, then all variances, channel by channel.

On the CPU they are numpy's (`reduceat`, 13 µs where torch's `segment_reduce` takes 350 for 26,560 channels), and what
is only needed of non-finite statistics is computed only where a range is not finite. On other devices, where looking
would mean waiting, everything is computed, in as few kernels as possible. NaN and Inf pass through all of it, so that a
range tells their kind.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

Floats = npt.NDArray[np.float32]
_MAX = float(np.finfo(np.float32).max)


class Ranges(Protocol):
    """What `Statistics` reduces with. `values` are float32 [2 * channels], each result float32 [.. layers]."""

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """[6 * layers], in the order of `wire.NORM_STATS`."""

    def shift(self, values: torch.Tensor, before: torch.Tensor, weights: npt.NDArray[np.float64]) -> torch.Tensor:
        """[layers]: the largest distance of a channel's mean from what it was before, less what rounding alone may
        account for, in standard deviations of before, divided by `weights`."""


def ranges_on(device: torch.device, channels: Sequence[int], eps: Sequence[float], slack: Sequence[float]) -> Ranges:
    """Reductions on `device` for layers of so many channels. `eps` is what each layer adds to a variance before it
    divides, `slack` the relative rounding error of its running mean, 0 where that is negligible."""
    return (HostRanges if device.type == "cpu" else DeviceRanges)(channels, eps, slack)


class HostRanges:
    """On the CPU."""

    def __init__(self, channels: Sequence[int], eps: Sequence[float], slack: Sequence[float]) -> None:
        self._starts = np.cumsum([0, *channels, *channels])[:-1]
        self._layers = len(channels)
        self._eps = np.repeat(np.array(eps, dtype=np.float32), channels)
        self._slack = np.repeat(np.array(slack, dtype=np.float32), channels) if any(slack) else None
        self._moved, self._wide = np.empty_like(self._eps), np.empty_like(self._eps)  # room to work in

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """See `Ranges`."""
        layers, vector = self._layers, values.numpy()
        with np.errstate(all="ignore"):
            low, high = np.minimum.reduceat(vector, self._starts), np.maximum.reduceat(vector, self._starts)
        found = np.zeros(6 * layers, dtype=np.float32)
        found[: 4 * layers].reshape(2, 2, layers)[:, 0] = low.reshape(2, layers)
        found[: 4 * layers].reshape(2, 2, layers)[:, 1] = high.reshape(2, layers)
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (low[layers:] >= 0).all()):
            found[4 * layers :] = self._counts(vector)
        return torch.from_numpy(found)

    def _counts(self, vector: Floats) -> Floats:
        half = len(vector) // 2
        finite = np.isfinite(vector)
        bad = np.concatenate([~(finite[:half] & finite[half:]), vector[half:] < 0])
        return np.add.reduceat(bad.astype(np.float32), self._starts)

    def shift(self, values: torch.Tensor, before: torch.Tensor, weights: npt.NDArray[np.float64]) -> torch.Tensor:
        """See `Ranges`."""
        now, then, half = values.numpy(), before.numpy(), values.numel() // 2
        moved, wide = self._moved, self._wide
        with np.errstate(all="ignore"):
            np.subtract(now[:half], then[:half], out=moved)
            if self._slack is not None:
                np.maximum(np.abs(moved) - self._slack * np.abs(then[:half]), 0, out=moved)
            np.multiply(moved, moved, out=moved)
            np.divide(moved, np.add(then[half:], self._eps, out=wide), out=moved)
            largest = np.sqrt(np.maximum.reduceat(moved, self._starts[: self._layers]))
            return torch.from_numpy(np.minimum(largest / weights, _MAX).astype(np.float32))


class DeviceRanges:
    """On any other device, without waiting for it."""

    def __init__(self, channels: Sequence[int], eps: Sequence[float], slack: Sequence[float]) -> None:
        lengths = torch.tensor(channels, dtype=torch.long)
        self._offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.repeat(4).cumsum(0)])
        self._layers = len(channels)
        self._eps = torch.tensor(eps, dtype=torch.float32).repeat_interleave(lengths)
        self._slack = torch.tensor(slack, dtype=torch.float32).repeat_interleave(lengths) if any(slack) else None
        self._weights: tuple[bytes, torch.Tensor] = b"", self._eps

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """See `Ranges`."""
        self._follow(values.device)
        layers, half = self._layers, values.numel() // 2
        high = self._reduce(torch.cat([values, values.neg()]), "max").view(4, layers)
        nothing = values * 0  # NaN where the value is not finite
        counts = torch.empty_like(values)
        torch.ne(nothing[:half] + nothing[half:], 0, out=counts[:half])
        torch.lt(values[half:], 0, out=counts[half:])
        low = -high[2:]
        ranges = torch.stack([low[0], high[0], low[1], high[1]])
        return torch.cat([ranges.flatten(), self._reduce(counts, "sum")])

    def shift(self, values: torch.Tensor, before: torch.Tensor, weights: npt.NDArray[np.float64]) -> torch.Tensor:
        """See `Ranges`."""
        self._follow(values.device)
        half = values.numel() // 2
        moved = values[:half] - before[:half]
        if self._slack is not None:
            moved = (moved.abs() - self._slack * before[:half].abs()).clamp_(min=0)
        largest = self._reduce(moved.square_().div_(before[half:] + self._eps), "max").sqrt_()
        return largest.div_(self._on_device(weights, values.device)).clamp_(max=_MAX)

    def _reduce(self, values: torch.Tensor, how: str) -> torch.Tensor:
        parts = values.numel() // max(self._eps.numel(), 1)
        offsets = self._offsets[: parts * self._layers + 1]
        return torch.segment_reduce(values, how, offsets=offsets, unsafe=True)

    def _on_device(self, weights: npt.NDArray[np.float64], device: torch.device) -> torch.Tensor:
        if self._weights[0] != (key := weights.tobytes()):
            self._weights = key, torch.from_numpy(weights.astype(np.float32)).to(device, non_blocking=True)
        return self._weights[1]

    def _follow(self, device: torch.device) -> None:
        if self._offsets.device != device:
            self._offsets = self._offsets.to(device, non_blocking=True)
            self._eps = self._eps.to(device, non_blocking=True)
            self._slack = None if self._slack is None else self._slack.to(device, non_blocking=True)
