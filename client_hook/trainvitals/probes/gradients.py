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
        self._repeated = {i for i, one in enumerate(self._parameters) if self._sharded and not counts_here(one, leads)}
        stat = wire.GRAD_NORM + wire.SHARD if self._sharded else wire.GRAD_NORM
        self.columns = columns.add_all([name for name, _ in parameters], wire.PARAMETER, stat)
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
        parts = []
        for (device, _, _), places in self._groups(without).items():
            grads = [_plain(self._parameters[i].grad) for i in places]
            dtype = torch.float64 if grads[0].dtype == torch.float64 else torch.float32
            norms = torch.stack(torch._foreach_norm(grads, 2, dtype=dtype)).float()
            if scale is not None:
                norms = norms / scale.to(device, non_blocking=True)
            if self._sharded:
                norms = square(norms, [i in self._repeated for i in places])
            parts.append(Part(self.columns[np.array(places, dtype=np.intp)], norms))
        return parts

    def _groups(self, without: Collection[int]) -> dict[tuple[torch.device, torch.dtype, torch.layout], list[int]]:
        groups: dict[tuple[torch.device, torch.dtype, torch.layout], list[int]] = {}
        for i, parameter in enumerate(self._parameters):
            if (grad := parameter.grad) is not None and i not in without and is_whole(grad):
                groups.setdefault((grad.device, grad.dtype, grad.layout), []).append(i)
        return groups

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


def _plain(grad: torch.Tensor | None) -> torch.Tensor:
    """A tensor `_foreach_norm` takes: complex as pairs of reals, sparse as its summed values."""
    assert grad is not None  # noqa: S101 - `_groups` took only parameters with a gradient
    grad = local_part(grad.detach())
    if grad.is_sparse:
        grad = grad.coalesce().values()
    return torch.view_as_real(grad) if grad.is_complex() else grad
