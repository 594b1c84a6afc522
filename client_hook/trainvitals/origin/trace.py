"""What is seen of a forward under hooks: for each call of a module, in order, whether what went in and what came out
was finite. Everything stays on its device until `Trace.settle`, which waits for it once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trainvitals.layers import statistics_of
from trainvitals.nesting import floating_tensors

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding, nn.MultiheadAttention, nn.Bilinear)
Side = Literal["enter", "exit"]


@dataclass(eq=False)
class Call:
    """One call of a module. `inner` counts the calls made within it. Numbers are there after `Trace.settle`."""

    name: str
    module: nn.Module
    parent: "Call | None"
    finite: dict[Side, bool] = field(default_factory=dict)
    statistics: dict[Side, bool] = field(default_factory=dict)  # are its running statistics finite?
    amax: float | None = None  # of its input, float32
    dtype: str = ""  # of its output, else of its input
    broken: int = 0  # channels of its output that hold something non-finite
    channels: int = 0
    nan: bool = False  # whether NaN is among them


class Trace:
    """The calls of one forward in the order in which they began, and `order`: every entry and exit as it came. It is
    not `whole` where the forward would have had to wait for another rank."""

    def __init__(self) -> None:
        self.whole = True
        self.order: list[tuple[Side, Call]] = []
        self._stack: list[Call] = []
        self._pending: list[tuple[torch.Tensor, Callable[[float], None]]] = []

    def attach(self, named: list[tuple[str, nn.Module]]) -> list[RemovableHandle]:
        """Hook every module; the handles are the caller's to remove."""
        handles = []
        for name, module in named:
            handles.append(module.register_forward_pre_hook(_entering(self, name), with_kwargs=True))
            handles.append(module.register_forward_hook(self._exit))
        return handles

    def enter(self, name: str, module: nn.Module, given: Any) -> None:
        """A module begins to run."""
        call = Call(name, module, self._stack[-1] if self._stack else None)
        self._stack.append(call)
        self.order.append(("enter", call))
        found = [tensor.detach() for tensor in floating_tensors(given) if tensor.numel()]
        self._judge(call, "enter", found)
        if found:
            call.dtype = _dtype(found[0])
            self._later(torch.stack([_amax(tensor) for tensor in found]).max(), lambda v: setattr(call, "amax", v))

    def _exit(self, module: nn.Module, args: Any, output: Any) -> None:
        call = self._stack.pop()
        while call.module is not module and self._stack:  # calls that an exception left, caught by the model itself
            call = self._stack.pop()
        self.order.append(("exit", call))
        found = [tensor.detach() for tensor in floating_tensors(output) if tensor.numel()]
        self._judge(call, "exit", found)
        if found:
            call.dtype = _dtype(found[0])
            broken = _broken_channels(module, found[0])
            call.channels = broken.numel()
            self._later(broken.sum(), lambda v: setattr(call, "broken", int(v)))
            self._later(torch.isnan(found[0]).any(), lambda v: setattr(call, "nan", bool(v)))

    def settle(self) -> None:
        """Wait for the device, once for each, and fill in what was found."""
        groups: dict[torch.device, list[tuple[torch.Tensor, Callable[[float], None]]]] = {}
        for pair in self._pending:
            groups.setdefault(pair[0].device, []).append(pair)
        for group in groups.values():
            values = torch.stack([tensor.double().reshape(()) for tensor, _ in group]).tolist()
            for value, (_, put) in zip(values, group, strict=True):
                put(value)
        self._pending = []

    def _judge(self, call: Call, side: Side, found: list[torch.Tensor]) -> None:
        call.finite[side] = True
        if found:
            self._later(_all_finite(found), lambda v: call.finite.__setitem__(side, bool(v)))
        if kept := list(statistics_of(call.module).values()):
            self._later(_all_finite(kept), lambda v: call.statistics.__setitem__(side, bool(v)))

    def _later(self, tensor: torch.Tensor, put: Callable[[float], None]) -> None:
        self._pending.append((tensor, put))


def _entering(trace: Trace, name: str) -> Callable[[nn.Module, Any, Any], None]:
    return lambda module, args, kwargs: trace.enter(name, module, [args, kwargs])


def _all_finite(found: list[torch.Tensor]) -> torch.Tensor:
    device = found[0].device
    return torch.stack([torch.isfinite(tensor).all().to(device, non_blocking=True) for tensor in found]).all()


def _amax(tensor: torch.Tensor) -> torch.Tensor:
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    low, high = real.aminmax()
    return torch.maximum(low.abs(), high.abs()).float()


def _broken_channels(module: nn.Module, output: torch.Tensor) -> torch.Tensor:
    """Which channels hold something non-finite, bool [channels]: of images and sequences of convolutions the second
    axis, of what linear layers and their kin give the last one."""
    bad = ~torch.isfinite(output)
    if bad.dim() < 2:
        return bad.reshape(-1)
    axis = bad.dim() - 1 if isinstance(module, _CHANNELS_LAST) else 1
    rest = [i for i in range(bad.dim()) if i != axis]
    return bad.any(dim=rest)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
