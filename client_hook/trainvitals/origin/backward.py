"""Which module's backward makes something non-finite out of a finite gradient: the square root of zero, the norm of a
zero vector. Nothing in the forward tells.

The user's loss is not known, so the gradient that comes in from the output is a ramp from -1 to 1: a derivative that is
infinite is so whatever comes in. Nothing reaches a `.grad`.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trainvitals.nesting import floating_tensors
from trainvitals.origin.trace import Call


class Backward:
    """Follows the gradients of everything that passes between modules. `order` holds those tensors, by number, in the
    order in which their gradients came, with a flag each on its device."""

    def __init__(self) -> None:
        self._stack: list[Call] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[torch.Tensor] = []  # so that no id is used twice
        self._makers: dict[int, Call | None] = {}
        self._takers: dict[int, list[Call]] = {}
        self._order: list[tuple[int, torch.Tensor]] = []

    def attach(self, named: list[tuple[str, nn.Module]]) -> list[RemovableHandle]:
        """Hook every module; the handles are the caller's to remove."""
        handles = []
        for name, module in named:
            handles.append(module.register_forward_pre_hook(self._entering(name), with_kwargs=True))
            handles.append(module.register_forward_hook(self._exit))
        return handles

    def run(self, output: Any, parameters: list[nn.Parameter]) -> None:
        """Go back from the output."""
        ends = [tensor for tensor in floating_tensors(output) if tensor.requires_grad and tensor.numel()]
        ramps = [torch.linspace(-1, 1, t.numel(), device=t.device).view_as(t).to(t.dtype) for t in ends]
        if ends and parameters:
            torch.autograd.grad(ends, parameters, ramps, allow_unused=True)

    def culprits(self) -> list[Call]:
        """The modules one of whose backwards broke first: one, unless several took the same tensor; empty where none
        did. Waits for the device."""
        for number, finite in self._order:
            if not bool(finite):
                takers = self._takers[number]
                inner = [call for call in takers if not any(other.parent is call for other in takers)]
                maker = self._makers[number]
                around = maker.parent if maker is not None else None
                return inner or ([around] if around is not None else [])
        return []

    def _entering(self, name: str) -> Any:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            call = Call(name, module, self._stack[-1] if self._stack else None)
            self._stack.append(call)
            for tensor in floating_tensors([args, kwargs]):
                if tensor.requires_grad:
                    self._takers[self._number_of(tensor, None)].append(call)

        return enter

    def _exit(self, module: nn.Module, args: Any, output: Any) -> None:
        call = self._stack.pop()
        for tensor in floating_tensors(output):
            if tensor.requires_grad:
                self._number_of(tensor, call)

    def _number_of(self, tensor: torch.Tensor, maker: Call | None) -> int:
        number = self._numbers.get(id(tensor))
        if number is None:
            number = self._numbers[id(tensor)] = len(self._kept)
            self._kept.append(tensor)
            self._makers[number], self._takers[number] = maker, []
            note = partial(self._note, number)
            tensor.register_hook(note)  # type: ignore[no-untyped-call]
        return number

    def _note(self, number: int, gradient: torch.Tensor) -> None:
        self._order.append((number, torch.isfinite(gradient).all()))
