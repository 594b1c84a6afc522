"""Hooks that survive what users do to models.

A hook left on a module is copied by `deepcopy` and written by `pickle`, so it must hold neither the monitor nor a lock.
Ours are partials of a module-level function and a number; the number leads to the owner only in this process and only
while the owner lives, and the owner is asked whether the module really is its own, so that a copy's forward counts for
nothing.
"""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


class Listener(Protocol):
    """What a hook calls: `module` is about to run with `args`; `place` is the number given at `listen`."""

    def on_forward(self, module: nn.Module, args: tuple[Any, ...], place: int) -> None:
        """Called before the module's forward, on the training thread; must not raise."""


class LoadListener(Protocol):
    """What a load hook calls."""

    def on_load(self, module: nn.Module) -> None:
        """Called after the module has loaded a state dict; must not raise."""


class CallListener(Protocol):
    """What a hook calls that wants to know all of a call."""

    def on_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Called before the module's forward, on the training thread; must not raise."""


_listeners: WeakValueDictionary[int, Any] = WeakValueDictionary()
_numbers = count()


class _Muted(threading.local):
    """Whether this thread's calls are our own."""

    now = False


_muted = _Muted()


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """What this thread calls in the body is no training: no listener is told of it."""
    earlier, _muted.now = _muted.now, True
    try:
        yield
    finally:
        _muted.now = earlier


def capturing() -> bool:
    """Whether a CUDA graph is being captured: what is called then runs again at every replay, unseen, and must neither
    ask the device anything nor allocate. Nothing is read meanwhile."""
    initialised: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return initialised and torch.cuda.is_current_stream_capturing()


def listen(listener: Listener, module: nn.Module, place: int = 0) -> RemovableHandle:
    """Call `listener.on_forward` before each forward of `module` until the handle is removed."""
    return module.register_forward_pre_hook(partial(_call, _number_of(listener), place))


def listen_to_calls(listener: CallListener, module: nn.Module) -> RemovableHandle:
    """Call `listener.on_call` before each forward of `module` until the handle is removed."""
    return module.register_forward_pre_hook(partial(_called, _number_of(listener)), with_kwargs=True)


def listen_to_load(listener: LoadListener, module: nn.Module) -> RemovableHandle:
    """Call `listener.on_load` after each `load_state_dict` of `module` until the handle is removed."""
    hook = partial(_loaded, _number_of(listener))
    handle: RemovableHandle = module.register_load_state_dict_post_hook(hook)  # type: ignore[no-untyped-call]
    return handle


def _number_of(listener: Any) -> int:
    number: int | None = getattr(listener, "_hook_number", None)
    if number is None:
        number = next(_numbers)
        listener._hook_number = number
        _listeners[number] = listener
    return number


def _loaded(number: int, module: nn.Module, incompatible: Any) -> None:
    listener = _listeners.get(number)
    if listener is not None:
        listener.on_load(module)


def _called(number: int, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    if torch.compiler.is_compiling() or _muted.now or capturing():
        return
    listener = _listeners.get(number)
    if listener is not None:
        listener.on_call(module, args, kwargs)


def _call(number: int, place: int, module: nn.Module, args: tuple[Any, ...]) -> None:
    if torch.compiler.is_compiling() or _muted.now or capturing():
        return
    listener = _listeners.get(number)
    if listener is not None:
        listener.on_forward(module, args, place)
