"""A short memory of running statistics, to restore from.

The statistics probe concatenates all means and variances anyway; keeping the last few of those vectors costs memory but
little work: 16 vectors of 4 bytes per channel and statistic, 3.4 MB for ResNet-50's 26,560 channels.
"""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count, pairwise

import torch

from trainvitals.layers import Norm
from trainvitals.repair.sanitize import Donor

RECENT = 8  # consecutive healthy snapshots
OLDER = 4  # healthy ones `SPACING` apart, for faults that build up slowly
CORRUPT = 4  # snapshots in which some other layer was already corrupt
SPACING = 50  # snapshots
SLOTS = RECENT + OLDER + CORRUPT + 2  # and those that are not judged yet

# A channel's snapshot is in line with its own history when its variance is within this factor of the median of the
# kept ones, and its mean within this many standard deviations: one batch moves a variance by at most
# 1 + momentum * (batch / running - 1), so at momentum 0.1 a factor of 4 needs a batch 31 times as wide.
VARIANCE_FACTOR = 4.0
MEAN_DEVIATIONS = 3.0


@dataclass
class Snapshot:
    """All statistics at one step, the `arrival`-th kept: float32 [2 * channels], means then variances."""

    arrival: int
    step: int
    values: torch.Tensor
    slot: int = -1  # of the storage; -1: a tensor of its own


class Snapshots:
    """The kept snapshots of one device's norms, and the choice among them."""

    def __init__(self, norms: list[Norm], channels: list[int]) -> None:
        offsets = [0]
        for channels_of_one in channels:
            offsets.append(offsets[-1] + channels_of_one)
        self._norms = norms
        self._slices = {norm.name: slice(a, b) for norm, (a, b) in zip(norms, pairwise(offsets), strict=True)}
        self._channels = offsets[-1]
        self._arrivals = count()
        self._recent: deque[Snapshot] = deque(maxlen=RECENT)
        self._older: deque[Snapshot] = deque(maxlen=OLDER)
        self._corrupt: deque[Snapshot] = deque(maxlen=CORRUPT)
        self._unjudged: deque[Snapshot] = deque()
        self._store: torch.Tensor | None = None

    def keep(self, step: int, values: torch.Tensor) -> None:
        """Keep the statistics read at `step`; on a GPU it is not known yet whether they are healthy."""
        slot = self._free_slot()
        if slot >= 0:
            if self._store is None or self._store.device != values.device:
                self._store = values.new_empty((SLOTS, values.numel()))
            values = self._store[slot].copy_(values)
        self._unjudged.append(Snapshot(next(self._arrivals), step, values, slot))

    def judge(self, step: int, healthy: bool) -> None:
        """The statistics read at `step` have arrived; `healthy` when no channel of any layer was corrupt."""
        while self._unjudged and self._unjudged[0].step != step:
            self._unjudged.popleft()
        if not self._unjudged:
            return
        snapshot = self._unjudged.popleft()
        if not healthy:
            self._corrupt.append(snapshot)
            return
        oldest = self._recent[0] if len(self._recent) == RECENT else None
        if oldest and (not self._older or oldest.arrival - self._older[-1].arrival >= SPACING):
            self._older.append(oldest)
        self._recent.append(snapshot)

    def _free_slot(self) -> int:
        """Snapshots live in storage that is allocated once: among what a training step allocates and frees, they would
        keep the allocator from giving memory back. -1 where all of it is taken, as by a GPU that lags behind."""
        kept = (self._recent, self._older, self._corrupt, self._unjudged)
        used = {snapshot.slot for some in kept for snapshot in some}
        return next((slot for slot in range(SLOTS) if slot not in used), -1)

    def take_over(self, earlier: "Snapshots", layers: Collection[str]) -> None:
        """Go on with the earlier snapshots of `layers`; of the other layers nothing is known for that time."""
        shared = [name for name in self._slices if name in layers and name in earlier._slices]
        if not shared:
            return
        mine, theirs = (
            torch.cat([torch.arange(one._slices[name].start, one._slices[name].stop) for name in shared])
            for one in (self, earlier)
        )
        for name in ("_recent", "_older", "_corrupt", "_unjudged"):
            for snapshot in getattr(earlier, name):
                kept = getattr(self, name)
                known = [one for one in kept if one.arrival == snapshot.arrival]  # of another device's norms
                values = known[0].values if known else snapshot.values.new_full((2 * self._channels,), torch.nan)
                values.view(2, -1)[:, mine] = snapshot.values.view(2, -1)[:, theirs].to(values.device)
                if not known:
                    kept.append(Snapshot(snapshot.arrival, snapshot.step, values))
        self._arrivals = count(next(earlier._arrivals))

    def previous(self) -> dict[int, dict[str, torch.Tensor]]:
        """The newest statistics whose step has been judged, by id of the module and name of the buffer."""
        kept = [*self._recent, *self._corrupt]
        if not kept:
            return {}
        values = max(kept, key=lambda snapshot: snapshot.arrival).values
        means, variances = values[: self._channels], values[self._channels :]
        by_name = {norm.name: norm.module for norm in self._norms}
        return {
            id(by_name[name]): {"running_mean": means[where], "running_var": variances[where]}
            for name, where in self._slices.items()
        }

    def donor(self, norm: Norm, bad: torch.Tensor) -> Donor | None:
        """For each bad channel of `norm` the newest statistics in line with the channel's own history; where none are
        in line, the newest finite ones."""
        where = self._slices.get(norm.name)
        kept = [*self._recent, *self._older, *self._corrupt, *self._unjudged]
        kept.sort(key=lambda snapshot: -snapshot.arrival)
        if where is None or not kept:
            return None
        means = torch.stack([snapshot.values[: self._channels][where] for snapshot in kept])
        variances = torch.stack([snapshot.values[self._channels :][where] for snapshot in kept])
        finite = torch.isfinite(means) & torch.isfinite(variances) & (variances >= 0)
        chosen = _newest(finite & _in_line(means, variances, finite), finite)
        usable = finite.any(0)
        steps = torch.tensor([snapshot.step for snapshot in kept])[chosen.cpu()]
        used = (usable & bad.flatten()).cpu()
        oldest = int(steps[used].min()) if bool(used.any()) else None
        mean, var = (values.gather(0, chosen[None])[0] for values in (means, variances))
        return Donor(mean.view(bad.shape), var.view(bad.shape), usable.view(bad.shape), oldest)


def _in_line(means: torch.Tensor, variances: torch.Tensor, finite: torch.Tensor) -> torch.Tensor:
    nan = torch.tensor(float("nan"), device=means.device)
    centre = torch.where(finite, means, nan).nanmedian(0).values
    spread = torch.where(finite, variances, nan).nanmedian(0).values
    near = (means - centre).abs() <= MEAN_DEVIATIONS * spread.sqrt() + 1e-6
    return near & (variances <= VARIANCE_FACTOR * spread + 1e-12)


def _newest(preferred: torch.Tensor, fallback: torch.Tensor) -> torch.Tensor:
    """Row index per column: the first preferred row (rows are newest first), else the first fallback row, else 0."""
    first_preferred, first_fallback = preferred.int().argmax(0), fallback.int().argmax(0)
    return torch.where(preferred.any(0), first_preferred, first_fallback)
