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
from trainvitals.record.columns import Columns
from trainvitals.record.transfer import Part

ANCHORS = 8  # parameters that carry a hook
MOST_ANCHORS = 64  # where parts of a model take turns


class Gradients:
    """Reads the gradients of `parameters` (pairs of name and parameter)."""

    name = "gradients"

    def __init__(self, parameters: Sequence[tuple[str, torch.nn.Parameter]], columns: Columns, guard: Guard) -> None:
        self._guard = guard
        self._parameters = [parameter for _, parameter in parameters]
        self.columns = columns.add_all([name for name, _ in parameters], wire.PARAMETER, wire.GRAD_NORM)
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
        the places in `without`. A kind of gradient that fails is disabled by itself."""
        parts: list[Part] = []
        for kind, places in self._groups(without).items():
            norms = self._guard.run(f"{self.name} of {kind[1]}, {kind[2]}", partial(self._norms, places, scale), None)
            if norms is not None:
                parts.append(Part(self.columns[np.array(places, dtype=np.intp)], norms))
        return parts

    @torch.no_grad()
    def _norms(self, places: list[int], scale: torch.Tensor | None) -> torch.Tensor:
        grads = [plain(grad) for i in places if (grad := self._parameters[i].grad) is not None]
        dtype = torch.float64 if grads[0].dtype == torch.float64 else torch.float32
        norms = torch.stack(torch._foreach_norm(grads, 2, dtype=dtype)).float()
        return norms if scale is None else norms / scale.to(norms.device, non_blocking=True)

    def _groups(self, without: Collection[int]) -> dict[tuple[torch.device, torch.dtype, torch.layout], list[int]]:
        groups: dict[tuple[torch.device, torch.dtype, torch.layout], list[int]] = {}
        for i, parameter in enumerate(self._parameters):
            if (grad := parameter.grad) is not None and i not in without:
                groups.setdefault((grad.device, grad.dtype, grad.layout), []).append(i)
        return groups

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


def plain(grad: torch.Tensor) -> torch.Tensor:
    """A tensor `_foreach_norm` takes: complex as pairs of reals, sparse as its summed values."""
    grad = grad.detach()
    if grad.is_sparse:
        grad = _summed(grad)
    return torch.view_as_real(grad) if grad.is_complex() else grad


def _summed(grad: torch.Tensor) -> torch.Tensor:
    """The values of a sparse tensor with those of equal indices added up, in as many rows as there were, the rest 0:
    what `coalesce` finds, which would wait for the device to learn how many are left."""
    if grad.is_coalesced() or grad._nnz() == 0:
        return grad._values()
    key = torch.zeros_like(grad._indices()[0])
    for index, size in zip(grad._indices(), grad.shape, strict=False):
        key = key * size + index
    key, order = torch.sort(key)
    row = torch.cat([key.new_zeros(1), (key[1:] != key[:-1]).long()]).cumsum(0)
    values = grad._values()[order]
    return torch.zeros_like(values).index_add_(0, row, values)
