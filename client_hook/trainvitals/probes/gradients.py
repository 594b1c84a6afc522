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
from trainvitals.probes.guard import Guard
from trainvitals.probes.norms import Norms
from trainvitals.probes.shards import counts_here, is_sharded, is_whole, local_part, square
from trainvitals.record.columns import Columns
from trainvitals.record.transfer import Part

ANCHORS = 8  # parameters that carry a hook
MOST_ANCHORS = 64  # where parts of a model take turns


class Gradients:
    """Reads the gradients of `parameters` (pairs of name and parameter)."""

    name = "gradients"

    def __init__(
        self, parameters: Sequence[tuple[str, torch.nn.Parameter]], columns: Columns, guard: Guard, leads: bool = True
    ) -> None:
        self._guard = guard
        self._apart = False
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
        """Put anchors on parameters that do get gradients; for when a step passed without one firing. The earlier ones
        stay, within bounds: parts of a model may take turns."""
        with_gradient = [parameter for parameter in self._parameters if parameter.grad is not None]
        self._anchor(with_gradient, on_end)
        for handle in self._handles[:-MOST_ANCHORS]:
            handle.remove()
        del self._handles[:-MOST_ANCHORS]

    def rearm(self) -> None:
        """A forward begins: if the last backward raised, the engine threw the callback away with it."""
        self._queued = False

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
        parts = self._read(gradients)
        if scale is not None:
            parts = [Part(p.columns, p.values / scale.to(p.values.device, non_blocking=True)) for p in parts]
        return [self._square(part) for part in parts] if self._sharded else parts

    def _square(self, part: Part) -> Part:
        repeated = [column in self._repeated for column in np.arange(self._width)[part.columns].tolist()]
        return Part(part.columns, square(part.values, repeated))

    def _read(self, gradients: list[torch.Tensor | None]) -> list[Part]:
        """All kinds at once; from the first failure on each by itself, so that the one that fails disables no other."""
        if not self._apart:
            parts = self._guard.run(self.name, lambda: self._norms.read(gradients), None)
            if parts is not None:
                return parts
            self._apart = True
        found: list[Part] = []
        for dtype, layout in dict.fromkeys((g.dtype, g.layout) for g in gradients if g is not None):
            alike = [g if g is not None and (g.dtype, g.layout) == (dtype, layout) else None for g in gradients]
            found += self._guard.run(f"{self.name} of {dtype}, {layout}", partial(self._norms.read, alike), found[:0])
        return found

    def _anchor(self, parameters: Sequence[torch.nn.Parameter], on_end: Callable[[], None]) -> None:
        stride = max(1, len(parameters) // ANCHORS)
        chosen = [*parameters[::stride][: ANCHORS - 1], *parameters[-1:]]
        for parameter in {id(p): p for p in chosen}.values():
            hook = partial(self._on_accumulated, on_end)
            self._handles.append(parameter.register_post_accumulate_grad_hook(hook))  # type: ignore[no-untyped-call]

    def _on_accumulated(self, on_end: Callable[[], None], _: object) -> None:
        if not self._queued:
            self._queued = True
            Variable._execution_engine.queue_callback(partial(self._again, on_end))

    def _again(self, on_end: Callable[[], None]) -> None:
        Variable._execution_engine.queue_callback(partial(self._end, on_end))

    def _end(self, on_end: Callable[[], None]) -> None:
        self._queued = False
        if not self._guard.run("backward", lambda: self._wait_for_outer(on_end), False):
            on_end()

    def _wait_for_outer(self, on_end: Callable[[], None]) -> bool:
        """Where this backward ran within a node of another (reentrant checkpointing), its end is not the end: go on
        when the outer one comes to the nodes behind that one. False where there are none."""
        node = torch._C._current_autograd_node()
        behind = [after for after, _ in node.next_functions if after is not None] if node is not None else []
        for after in behind:
            after.register_prehook(partial(self._on_accumulated, on_end))
        return bool(behind)
