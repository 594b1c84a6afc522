"""When a model's buffers may be changed: once every optimizer that owns parameters of it has had its turn.

A step of an optimizer ends the graphs that its loss was made of, but another one's backward may still need the same
buffers (two heads on one trunk, each with its own loss); changing them in between raises the version-counter error.
"""

from collections.abc import Mapping

import torch
from torch import nn

from trainvitals.layers import Models


class Release:
    """Follows whose turn it was. Optimizers are told apart by id."""

    def __init__(self, models: Models, optimizers: Mapping[str, torch.optim.Optimizer]) -> None:
        self._models = models
        self._optimizers = optimizers
        self._owners: dict[str, set[int]] = {}  # by model
        self._awaited: dict[str, set[int]] = {}  # by model: the owners whose turn is still to come
        self.look()

    def look(self) -> None:
        """Find out who owns what; costs a pass over all parameters."""
        optimizers = self._optimizers.values()
        self._owners = {name: {id(o) for o in optimizers if _owns(o, m)} for name, m in self._models.items()}
        self._awaited.clear()

    def turn(self, optimizer: torch.optim.Optimizer) -> set[str]:
        """`optimizer` has stepped, or its step was skipped: the models all of whose owners have now had their turn. It
        is safe to change those at the end of the step that completes it, and not later."""
        safe = set()
        for name, owners in self._owners.items():
            if id(optimizer) in owners:
                awaited = self._awaited.setdefault(name, set(owners))
                awaited.discard(id(optimizer))
                if not awaited:
                    del self._awaited[name]
                    safe.add(name)
        return safe


def _owns(optimizer: torch.optim.Optimizer, model: nn.Module) -> bool:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return any(id(p) in held for p in model.parameters())
