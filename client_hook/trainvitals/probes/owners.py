"""Whose gradients are whose, where a loop has several optimizers.

A gradient counts in the step in which its own optimizer uses it. What a later backward adds to it (a generator's,
through the discriminator) is none of that step's business, and what is left of it afterwards, until its optimizer's
next backward, is not a gradient of the steps in between.
"""

from collections.abc import Mapping, Sequence

import torch

WITNESSES = 4  # gradients per optimizer that tell whether there was a backward
SMALL = 1 << 14  # elements; they are kept alive until then


class Owners:
    """The places of `parameters` (pairs of name and parameter) that each of `optimizers` owns."""

    def __init__(
        self,
        parameters: Sequence[tuple[str, torch.nn.Parameter]],
        optimizers: Mapping[str, torch.optim.Optimizer],
    ) -> None:
        self._parameters = [parameter for _, parameter in parameters]
        self._places = {id(o): self._owned(o) for o in optimizers.values()}
        self._used: dict[int, list[tuple[torch.nn.Parameter, torch.Tensor, int]]] = {}

    @property
    def several(self) -> bool:
        """Whether there is anything to tell apart."""
        return len(self._places) > 1

    def places(self, optimizer: torch.optim.Optimizer | None) -> set[int]:
        """The places of the parameters that `optimizer` owns."""
        return self._places.get(id(optimizer), set())

    def use(self, optimizer: torch.optim.Optimizer) -> None:
        """`optimizer` has used its gradients."""
        if not self.several:
            return
        witnesses: list[tuple[torch.nn.Parameter, torch.Tensor, int]] = []
        for place in self._places[id(optimizer)]:
            parameter = self._parameters[place]
            if parameter.numel() <= SMALL and (grad := parameter.grad) is not None:
                witnesses.append((parameter, grad, grad._version))
                if len(witnesses) == WITNESSES:
                    break
        self._used[id(optimizer)] = witnesses

    def left_over(self) -> set[int]:
        """The places of gradients that were used and have not been touched since."""
        return set().union(*(self._places[key] for key, seen in self._used.items() if seen and all(map(_same, seen))))

    def _owned(self, optimizer: torch.optim.Optimizer) -> set[int]:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        return {i for i, parameter in enumerate(self._parameters) if id(parameter) in held}


def _same(witness: tuple[torch.nn.Parameter, torch.Tensor, int]) -> bool:
    parameter, grad, version = witness
    return parameter.grad is grad and grad._version == version
