"""L2 norms of every parameter's gradient, as they are at the end of backward.

That is the one moment at which they are complete, unclipped, not yet zeroed, and still scaled by a known factor. A few
parameters carry a post-accumulate hook; the first that fires queues a callback of the autograd engine, which queues
itself once more so that DDP has finished its all-reduce. With gradient accumulation the last backward wins.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial

import numpy as np
import torch
from torch.autograd import Variable

from trainvitals import wire
from trainvitals.probes.norms import Norms
from trainvitals.probes.shards import counts_here, is_sharded, is_whole, local_part, square
from trainvitals.record.columns import Columns
from trainvitals.record.transfer import Part

ANCHORS = 8  # parameters that carry a hook


class Gradients:
    """Reads the gradients of `parameters` (pairs of name and parameter)."""

    name = "gradients"

    def __init__(
        self, parameters: Sequence[tuple[str, torch.nn.Parameter]], columns: Columns, leads: bool = True
    ) -> None:
        self._parameters = [parameter for _, parameter in parameters]
        self._sharded = is_sharded(self._parameters)
        stat = wire.GRAD_NORM + wire.SHARD if self._sharded else wire.GRAD_NORM
        self.columns = columns.add_all([name for name, _ in parameters], wire.PARAMETER, stat)
        self._repeated = {
            int(column)
            for column, one in zip(self.columns, self._parameters, strict=True)
            if self._sharded and not counts_here(one, leads)
        }
        self._width = int(self.columns.max(initial=-1)) + 1
        self._norms = Norms(self.columns)
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._queued = False

    def attach(self, on_end: Callable[[], None]) -> None:
        """Call `on_end` at the end of each backward that reaches an anchor."""
        self._anchor(self._parameters, on_end)

    def ensure_anchored(self, on_end: Callable[[], None]) -> None:
        """Move the anchors to parameters that do get gradients; for when a step passed without one firing."""
        with_gradient = [parameter for parameter in self._parameters if parameter.grad is not None]
        if with_gradient:
            self.detach()
            self._anchor(with_gradient, on_end)

    def rearm(self) -> None:
        """A forward begins: if the last backward raised, the engine threw the callback away with it."""
        self._queued = False

    def places_of(self, optimizer: torch.optim.Optimizer) -> set[int]:
        """Which of the parameters an optimizer owns, by their place in the columns."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return {i for i, parameter in enumerate(self._parameters) if id(parameter) in held}

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def read(self, scale: torch.Tensor | None, without: Collection[int] = ()) -> list[Part]:
        """One norm per parameter that has a gradient, divided by `scale` (the grad scaler's, on its device); not for
        the places in `without`. Of sharded parameters it is the square of this process's part."""
        gradients = [parameter.grad for parameter in self._parameters]
        for place in without:
            gradients[place] = None
        if self._sharded:
            gradients = [local_part(one) if one is not None and is_whole(one) else None for one in gradients]
        parts = self._norms.read(gradients)
        if scale is not None:
            parts = [Part(p.columns, p.values / scale.to(p.values.device, non_blocking=True)) for p in parts]
        return [self._square(part) for part in parts] if self._sharded else parts

    def _square(self, part: Part) -> Part:
        repeated = [column in self._repeated for column in np.arange(self._width)[part.columns].tolist()]
        return Part(part.columns, square(part.values, repeated))

    def _anchor(self, parameters: Sequence[torch.nn.Parameter], on_end: Callable[[], None]) -> None:
        stride = max(1, len(parameters) // ANCHORS)
        chosen = [*parameters[::stride][: ANCHORS - 1], *parameters[-1:]]
        for parameter in {id(p): p for p in chosen}.values():
            hook = partial(self._on_accumulated, on_end)
            self._handles.append(parameter.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call]

    def _on_accumulated(self, on_end: Callable[[], None], _: torch.Tensor) -> None:
        if not self._queued:
            self._queued = True
            Variable._execution_engine.queue_callback(partial(self._again, on_end))

    def _again(self, on_end: Callable[[], None]) -> None:
        Variable._execution_engine.queue_callback(partial(self._end, on_end))

    def _end(self, on_end: Callable[[], None]) -> None:
        self._queued = False
        on_end()
