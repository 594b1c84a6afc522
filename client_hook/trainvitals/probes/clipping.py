"""By how much the gradients were clipped, without a second pass over them.

Clipping to a total norm multiplies every gradient by one factor, so one small gradient shows it: its norm at the end of
backward, and again when the optimizer steps. The ratio is 1 where nothing was clipped, 0 or NaN where the total norm
was not finite (then clipping spoils every gradient), and absent where no step was seen, as when the grad scaler skips
it. What clips value by value, or parameter by parameter, has no such factor: there it is that one parameter's.
"""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch

from trainvitals import wire
from trainvitals.probes.norms import plain
from trainvitals.probes.shards import is_sharded, local_part
from trainvitals.record.columns import Columns
from trainvitals.record.observation import Observation
from trainvitals.record.transfer import Part

SMALL = 1 << 14  # elements: one such gradient costs a few microseconds
AIM_AGAIN = 100  # steps for which a good choice is kept


class Clipping:
    """Measures at one of `parameters` (pairs of name and parameter): of those at the places that the clock owns; where
    it owns none, nothing is measured. Of sharded parameters what lies here is measured, since the factor is the same
    everywhere, and the total is the square of this process's part."""

    name = "clipping"

    def __init__(
        self, parameters: Sequence[tuple[str, torch.nn.Parameter]], owned: Collection[int], columns: Columns
    ) -> None:
        self._parameters = [parameter for _, parameter in parameters]
        self._sharded = is_sharded(self._parameters)
        self._owned = sorted((i for i in owned if self._parameters[i].numel()), key=self._size)
        if self._owned:
            self.ratio = columns.add("", wire.RUN, wire.CLIP_RATIO)
            self.total = columns.add("", wire.RUN, wire.GRAD_NORM_CLIPPED + (wire.SHARD if self._sharded else ""))
        small = sorted(i for i in self._owned if self._size(i) <= SMALL)
        self._candidates = np.array(small or self._owned[:1], dtype=np.intp)
        self._anchor = int(self._candidates[-1]) if len(self._candidates) else None
        self._measuring = self._anchor  # in the step under way
        self._aimed = 0
        self._before: torch.Tensor | None = None
        self._measured: torch.Tensor | None = None

    def begin(self, scale: torch.Tensor | None) -> None:
        """At the end of a backward, whose gradients carry `scale`."""
        self._before, self._measuring = None, self._anchor
        if (norm := self._norm()) is not None:
            self._before = norm if scale is None else norm / scale.to(norm.device, non_blocking=True)

    def end(self, optimizer: torch.optim.Optimizer) -> None:
        """At a step of the clock: before it, or after it where the backward came within (a closure's)."""
        before, self._before = self._before, None
        if before is not None and (norm := self._norm()) is not None:
            scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer unscales within its step
            self._measured = (norm / scale if isinstance(scale, torch.Tensor) else norm) / before

    def read(self) -> list[Part]:
        """The ratio of the step that ends, if it was seen."""
        measured, self._measured, self._before = self._measured, None, None
        return [] if measured is None else [Part(slice(self.ratio, self.ratio + 1), measured.reshape(1))]

    def conclude(self, seen: Observation, norms: npt.NDArray[np.float32]) -> None:
        """The step's values have arrived: its gradients before clipping, [parameters], 0 where absent. A gradient of 0
        tells nothing: then the ratio is absent."""
        if self._anchor is None:
            return
        if norms[self._anchor] == 0:
            seen.present[self.ratio] = False
        if seen.present[self.ratio]:
            with np.errstate(all="ignore"):
                owned, ratio = norms[self._owned].astype(np.float64), float(seen.values[self.ratio])
                total = owned.sum() * ratio**2 if self._sharded else np.sqrt(np.square(owned).sum()) * ratio
                seen.put(self.total, float(total))
        self._aim(norms)

    def _aim(self, norms: npt.NDArray[np.float32]) -> None:
        """Measure the largest of the small gradients from here on: rounding matters least there."""
        self._aimed -= 1
        if self._aimed < 0 or not norms[self._anchor] > 0:
            self._anchor = int(self._candidates[np.argmax(np.nan_to_num(norms[self._candidates], posinf=0.0))])
            self._aimed = AIM_AGAIN

    def _size(self, place: int) -> int:
        return self._parameters[place].numel()

    @torch.no_grad()
    def _norm(self) -> torch.Tensor | None:
        if self._measuring is None or (grad := self._parameters[self._measuring].grad) is None:
            return None
        norm: torch.Tensor = torch.linalg.vector_norm(plain(local_part(grad.detach())).float())
        return norm
