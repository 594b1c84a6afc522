"""Which models' buffers are another rank's: DistributedDataParallel copies those of its first rank to the others before
each synchronised forward, unless `broadcast_buffers=False`.

What is corrupt in such a copy is gone at the next forward, and what is repaired in it too. The wrapper is found around
the model that was given to `watch`, or else when the model's forward runs inside it.
"""

from collections.abc import Iterator
from typing import Any

from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from trainvitals.hooks import listen
from trainvitals.layers import Models, is_compiled, unwrap


class Following:
    """Knows of each model, by its key, whether this process only holds copies of another's buffers."""

    def __init__(self, models: Models) -> None:
        self._models = models
        self._wrappers = {key: wrapper for key, model in models.items() if (wrapper := _wrapper_of(model)) is not None}
        self._handles: dict[str, RemovableHandle] = {}

    def follows(self, model: str) -> bool:
        """Whether the buffers of `model` are replaced at its next synchronised forward."""
        wrapper = self._wrappers.get(model)
        return wrapper is not None and wrapper.broadcast_buffers and distributed.get_rank(wrapper.process_group) != 0

    def attach(self) -> None:
        """Listen for the wrapper of models that were given without one, where there are several processes."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        for key, model in self._models.items():
            if key not in self._wrappers and not is_compiled(model):
                self._handles[key] = listen(self, unwrap(model))

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles.values():
            handle.remove()
        self._handles.clear()

    def on_forward(self, module: nn.Module, args: tuple[Any, ...], place: int) -> None:
        """A model runs: inside its wrapper, if it has one."""
        active = DistributedDataParallel._active_ddp_module
        if active is None or unwrap(active) is not module:
            return
        for key, model in self._models.items():
            if unwrap(model) is module:
                self._wrappers[key] = active
                if key in self._handles:
                    self._handles.pop(key).remove()


def _wrapper_of(model: nn.Module) -> DistributedDataParallel | None:
    return next((one for one in _layers_around(model) if isinstance(one, DistributedDataParallel)), None)


def _layers_around(model: nn.Module) -> Iterator[nn.Module]:
    """The wrappers around the user's own module, outermost first."""
    inner = unwrap(model)
    while model is not inner:
        yield model
        within = getattr(model, "_orig_mod", None)
        model = within if isinstance(within, nn.Module) else model.get_submodule("module")
