"""The order in which layers run, learned from the first forward.

One-shot hooks record when each module is first called and then detach. Modules that were not called keep their place of
registration behind those that were, and their hook: where they are part of what was compiled after `watch`, taking it
away would cost another compilation. Of a model compiled before it nothing is learned: hooks would be ignored.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trainvitals.hooks import listen


class ForwardOrder:
    """Learns the order of `modules` (pairs of name and module)."""

    def __init__(self, modules: Sequence[tuple[str, nn.Module]]) -> None:
        self._modules = list(modules)
        self._seen: list[int] = []
        self._handles: dict[int, RemovableHandle] = {}

    def attach(self) -> None:
        """Begin to listen."""
        self._handles = {i: listen(self, module, i) for i, (_, module) in enumerate(self._modules)}

    def detach(self) -> None:
        """Stop listening."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def on_forward(self, module: nn.Module, args: tuple[Any, ...], place: int) -> None:
        """Note the first call of a module and let go of it."""
        handle = self._handles.get(place)
        if handle is not None and self._modules[place][1] is module and torch.is_grad_enabled():
            self._seen.append(place)
            del self._handles[place]
            handle.remove()

    def places(self) -> dict[str, int]:
        """Place in forward order of each module and of each parameter it owns, by name."""
        rest = [i for i in range(len(self._modules)) if i not in set(self._seen)]
        places: dict[str, int] = {}
        for rank, i in enumerate([*self._seen, *rest]):
            name, module = self._modules[i]
            places[name] = rank
            for parameter in module._parameters:
                places.setdefault(f"{name}.{parameter}".removeprefix("."), rank)
        return places
