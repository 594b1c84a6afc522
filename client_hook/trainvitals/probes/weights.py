"""What is dear and changes slowly: norms of the weights and of the optimizer's state, every `health_every` steps.

A norm carries NaN and Inf through, so it also tells whether they are corrupt, without waiting for the device.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from trainvitals import wire
from trainvitals.probes.shards import counts_here, is_sharded, local_part, square
from trainvitals.record.columns import Columns
from trainvitals.record.transfer import Part


class Weights:
    """Reads `parameters` (pairs of name and parameter) and their state in `optimizers`."""

    name = "weights"

    def __init__(
        self,
        parameters: Sequence[tuple[str, torch.nn.Parameter]],
        optimizers: Mapping[str, torch.optim.Optimizer],
        columns: Columns,
        leads: bool = True,
    ) -> None:
        self._parameters = [parameter for _, parameter in parameters]
        self._sharded = is_sharded(self._parameters)
        self._repeated = {i for i, one in enumerate(self._parameters) if self._sharded and not counts_here(one, leads)}
        self._optimizers = optimizers
        names = [name for name, _ in parameters]
        stat = wire.WEIGHT_NORM + wire.SHARD if self._sharded else wire.WEIGHT_NORM
        self.weight_columns = columns.add_all(names, wire.PARAMETER, stat)
        self.moment_columns = columns.add_all(names, wire.PARAMETER, wire.MOMENT_NORM)

    @torch.no_grad()
    def read(self) -> list[Part]:
        """One norm per parameter, and one sum of norms per parameter that has optimizer state. Of sharded parameters
        the first is the square of this process's part; the second, a sum of roots, tells only whether all is finite."""
        weights = [(i, parameter.detach()) for i, parameter in enumerate(self._parameters)]
        moments = [(i, tensor) for i, parameter in enumerate(self._parameters) for tensor in self._moments(parameter)]
        repeated = self._repeated if self._sharded else None
        return [*_norms(weights, self.weight_columns, repeated), *_norms(moments, self.moment_columns)]

    def _moments(self, parameter: torch.nn.Parameter) -> list[torch.Tensor]:
        state = [value for o in self._optimizers.values() for value in o.state.get(parameter, {}).values()]
        return [v for v in state if isinstance(v, torch.Tensor) and v.is_floating_point() and v.dim() > 0]


def _norms(
    tensors: Sequence[tuple[int, torch.Tensor]],
    columns: np.ndarray[tuple[int], np.dtype[np.intp]],
    repeated: set[int] | None = None,
) -> list[Part]:
    """The norms of tensors, each with its place in `columns`, added up where there are several; given `repeated`, their
    squares, 0 at those places."""
    groups: dict[tuple[torch.device, torch.dtype], list[tuple[int, torch.Tensor]]] = {}
    for i, held in tensors:
        given = local_part(held)
        tensor = torch.view_as_real(given) if given.is_complex() else given
        if tensor.layout == torch.strided:
            groups.setdefault((tensor.device, tensor.dtype), []).append((i, tensor))
    parts = []
    for (device, dtype), group in groups.items():
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        norms = torch.stack(torch._foreach_norm([tensor for _, tensor in group], 2, dtype=wide)).float()
        places = np.array([i for i, _ in group], dtype=np.intp)
        unique, where = np.unique(places, return_inverse=True)
        if len(unique) < len(places):
            index = torch.from_numpy(where).to(device, non_blocking=True)
            norms = torch.zeros(len(unique), device=device).index_add_(0, index, norms)
            places = unique
        if repeated is not None:
            norms = square(norms, [int(i) in repeated for i in places])
        parts.append(Part(columns[places], norms))
    return parts
