"""What is dear and changes slowly: norms of the weights and of the optimizer's state, every `health_every` steps.

A norm carries NaN and Inf through, so it also tells whether they are corrupt, without waiting for the device.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from trainvitals import wire
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
    ) -> None:
        self._parameters = [parameter for _, parameter in parameters]
        self._optimizers = optimizers
        names = [name for name, _ in parameters]
        self.weight_columns = columns.add_all(names, wire.PARAMETER, wire.WEIGHT_NORM)
        self.moment_columns = columns.add_all(names, wire.PARAMETER, wire.MOMENT_NORM)

    @torch.no_grad()
    def read(self) -> list[Part]:
        """One norm per parameter, and one sum of norms per parameter that has optimizer state."""
        weights = [(i, parameter.detach()) for i, parameter in enumerate(self._parameters)]
        moments = [(i, tensor) for i, parameter in enumerate(self._parameters) for tensor in self._moments(parameter)]
        return [*_norms(weights, self.weight_columns), *_norms(moments, self.moment_columns)]

    def _moments(self, parameter: torch.nn.Parameter) -> list[torch.Tensor]:
        state = [value for o in self._optimizers.values() for value in o.state.get(parameter, {}).values()]
        return [v for v in state if isinstance(v, torch.Tensor) and v.is_floating_point() and v.dim() > 0]


def _norms(
    tensors: Sequence[tuple[int, torch.Tensor]], columns: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> list[Part]:
    groups: dict[tuple[torch.device, torch.dtype], list[tuple[int, torch.Tensor]]] = {}
    for i, given in tensors:
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
        parts.append(Part(columns[places], norms))
    return parts
