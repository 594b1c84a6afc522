"""What the models were last called with: references, no copies, and the state of the random generators.

A batch is held no longer than until the next step's arrives (on a GPU: until the values of its step have). The caller's
tensors may be changed in place afterwards; their version counters tell.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trainvitals.hooks import listen_to_calls
from trainvitals.layers import Models, is_compiled, unwrap
from trainvitals.nesting import tensors

KEPT = 4  # forwards between two backwards, the newest


@dataclass(frozen=True)
class Forward:
    """One call of a watched model. `generators` are the states of the CPU's and the model's devices' generators,
    `autocast` the dtype that autocast was on with, by device type."""

    model: nn.Module
    key: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    versions: tuple[int, ...]
    generators: Mapping[str, torch.Tensor]
    autocast: Mapping[str, torch.dtype | None]

    @property
    def intact(self) -> bool:
        """Whether its tensors are still what they were."""
        return self.versions == _versions(self.args, self.kwargs)

    @property
    def nbytes(self) -> int:
        """Bytes its tensors hold."""
        return sum(tensor.nbytes for tensor in tensors([self.args, dict(self.kwargs)]))


class Forwards:
    """Listens to the calls of the watched models in training."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._handles: list[RemovableHandle] = []
        self._since: list[Forward] = []
        self._stale = False
        self._devices: dict[str, str | None] = {}

    def attach(self) -> None:
        """Begin to listen. Hooks inside a compiled model would be ignored, so those are heard at their wrapper."""
        for model in self._models.values():
            heard = model if hasattr(model, "_orig_mod") else unwrap(model)
            if heard is model or not is_compiled(model):
                self._handles.append(listen_to_calls(self, heard))

    def detach(self) -> None:
        """Stop listening and let go of everything."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._since = []

    def on_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """One of the models, or a copy of one, is called."""
        if not torch.is_grad_enabled():
            return
        key = next((k for k, m in self._models.items() if module is m or unwrap(m) is module), None)
        if key is None:
            return
        if self._stale:
            self._since, self._stale = [], False
        self._since = [*self._since[1 - KEPT :], self._remember(module, key, args, kwargs)]

    def end_backward(self) -> None:
        """A backward has ended: the next forward begins anew."""
        self._stale = True

    def take(self) -> list[Forward]:
        """The forwards of the step that ends; they are the caller's from here on."""
        taken, self._since, self._stale = self._since, [], False
        return taken

    def newest(self) -> list[Forward]:
        """The forwards since the last backward but one, oldest first."""
        return self._since

    def _remember(self, module: nn.Module, key: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Forward:
        if key not in self._devices:
            first = next(module.parameters(), None)
            self._devices[key] = str(first.device) if first is not None and first.device.type != "cpu" else None
        device = self._devices[key]
        generators = {"cpu": torch.get_rng_state()}
        if device is not None and device.startswith("cuda") and not torch.cuda.is_current_stream_capturing():
            generators[device] = torch.cuda.get_rng_state(device)
        kinds = {"cpu", device.partition(":")[0]} if device else {"cpu"}
        autocast = {k: torch.get_autocast_dtype(k) if torch.is_autocast_enabled(k) else None for k in kinds}
        return Forward(module, key, args, kwargs, _versions(args, kwargs), generators, autocast)


def _versions(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(-1 if t.is_inference() else t._version for t in tensors([args, dict(kwargs)]))
