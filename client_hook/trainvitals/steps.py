"""When does a step end, and when is it safe to change a model's buffers?

A step's end is seen in one of two ways. Until the first `watch.step()` it is the step of the clock optimizer (the first
one given), or the scaler skipping that step, which no hook reports: it is noticed when the next forward begins. From
the first `watch.step()` on, only that call ends a step.

The observation of an implicit step stays open until the next step begins, so that a `watch.step(loss=...)` that follows
the optimizer belongs to the same step.

A model's buffers are changed only at its safe points: in `watch.step()`, or until that is called after the step of an
optimizer that owns the model's parameters (that step has ended every graph that used them), and on entering validation
or save. Anywhere else a backward may still need them (the version counter would raise).
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trainvitals.hooks import listen
from trainvitals.layers import is_compiled, unwrap
from trainvitals.probes.guard import Guard
from trainvitals.probes.scaler import found_inf
from trainvitals.record.observation import Observation
from trainvitals.training import Training
from trainvitals.vitals import Vitals

SafePoint = Callable[[set[str]], None]  # the keys of the models whose buffers may be changed now


class Steps:
    """Follows the loop and reads the vital signs at the end of each step."""

    def __init__(
        self,
        training: Training,
        vitals: Vitals,
        guard: Guard,
        *,
        start: int,
        every: int,
        health_every: int,
        safe_point: SafePoint,
    ) -> None:
        self.step = start  # the step under way
        self.paused = False  # during validation
        self._models = training.models
        self._optimizers = training.optimizers
        self._vitals = vitals
        self._guard = guard
        self._every = every
        self._health_every = health_every
        self._safe_point = safe_point
        self._last_number = start - 1 if start else 0
        self._count = 0  # steps ended; the user's own numbers may have a stride
        self._explicit = False
        self._unclosed = False  # a step ended implicitly, and the next has not begun
        self._open: Observation | None = None  # its observation, where it was sampled
        self._backward_seen = False
        self._stepped = False  # some optimizer stepped since the last backward
        self._found_inf: torch.Tensor | None = None
        self._ended_at: float | None = None
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Hook the optimizers, a few parameters, and the forward of each eager model."""
        for key, optimizer in self._optimizers.items():
            owned = {name for name, model in self._models.items() if _owns(optimizer, model)}
            hook = partial(self._on_optimizer_step, key, owned)
            self._handles.append(optimizer.register_step_post_hook(hook))
        for model in self._models.values():
            if not is_compiled(model):
                self._handles.append(listen(self, unwrap(model)))
        self._vitals.signs.gradients.attach(self._on_backward_end)
        self._vitals.signs.learn_order()
        self._vitals.inquiry.attach()
        self._vitals.arm(self._count)

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._vitals.signs.detach()
        self._vitals.inquiry.close()

    @property
    def last(self) -> int:
        """The step that ended last; the first one's number before it."""
        return max(self.step - 1, 0)

    def end(self, step: int | None, loss: Any, output: Any, metrics: Mapping[str, Any]) -> None:
        """`watch.step()`: the step ends here."""
        self.paused = False
        self._guard.run("step", lambda: self._end(step, loss, output, metrics), None)

    def settle(self) -> None:
        """Nothing more belongs to the step that was open: the next one begins, or there is none."""
        self.notice_skip()
        self._unclosed = False
        if self._open is not None:
            self._open.sealed = True
            self._open = None
            self._vitals.advance()

    def notice_skip(self) -> None:
        """End the step that the scaler skipped, where nothing else has told of it."""
        if not self._explicit and self._is_skip():
            self._finish(skipped=True)

    def on_forward(self, module: nn.Module, args: tuple[Any, ...], place: int) -> None:
        """The next step begins: what is open is whole."""
        if not self.paused and torch.is_grad_enabled() and any(unwrap(m) is module for m in self._models.values()):
            self._vitals.signs.gradients.rearm()
            self._guard.run("step", self._begin, None)

    # --- what the hooks call --------------------------------------------------------------------------------------

    def _on_backward_end(self) -> None:
        if not self.paused:
            self._guard.run("step", self._backward_ended, None)

    def _begin(self) -> None:
        """The clock's next step begins. With several optimizers what follows may belong to the others' part of the
        same step, so it stays open until the clock's next step ends."""
        if len(self._optimizers) > 1:
            self.notice_skip()
        else:
            self.settle()

    def _backward_ended(self) -> None:
        self._begin()  # where no forward hook could (compiled models)
        self._backward_seen, self._stepped = True, False
        self._vitals.signs.scaler.mark()
        if self._sampled():
            self._vitals.read_gradients()

    def _on_optimizer_step(self, key: str, owned: set[str], optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self._guard.run("step", lambda: self._optimizer_stepped(key, optimizer), None)
        if not self._explicit:
            self._guard.run("repair", lambda: self._safe_point(owned), None)

    def _optimizer_stepped(self, key: str, optimizer: torch.optim.Optimizer) -> None:
        if not self._backward_seen:
            self._vitals.signs.gradients.ensure_anchored(self._on_backward_end)
        self._stepped = True
        self._vitals.freeze_gradients(optimizer)
        if optimizer is not self._clock:
            return
        self._found_inf = found_inf(optimizer) if self._vitals.signs.scaler.active else None
        if not self._explicit:
            self._finish(skipped=False)

    @property
    def _clock(self) -> torch.optim.Optimizer | None:
        return next(iter(self._optimizers.values()), None)

    def _is_skip(self) -> bool:
        """Whether the scaler went through a step that no optimizer saw. With several optimizers and no `watch.step()`
        only what the scaler notes of the clock itself counts: an update may be another's."""
        if not self._backward_seen or self._stepped or self._clock is None:
            return False
        one_of_many = self._clock if len(self._optimizers) > 1 and not self._explicit else None
        return self._vitals.signs.scaler.advanced(one_of_many)

    def _sampled(self) -> bool:
        return self._count % self._every == 0

    # --- ending a step --------------------------------------------------------------------------------------------

    def _end(self, step: int | None, loss: Any, output: Any, metrics: Mapping[str, Any]) -> None:
        if step is not None:
            self._renumber(step)
        seen = self._open if self._unclosed else self._finish(skipped=self._is_skip())
        self._explicit, self._unclosed, self._open = True, False, None
        if seen is not None:
            self._vitals.add_loss(seen, loss)
            self._vitals.add_output(seen, output)
            seen.sealed = True
        if metrics:
            self._vitals.add_metrics(self.step - 1, metrics)
        self._vitals.advance()
        self._safe_point(set(self._models))

    def _renumber(self, step: int) -> None:
        """The user's own step number."""
        if self._unclosed:
            self.step = step + 1
            if self._open is not None:
                self._open.step = step
        else:
            self.step = step

    def _finish(self, skipped: bool) -> Observation | None:
        """Read the step that ends now and go on to the next."""
        if self._open is not None:
            self._open.sealed = True
        now = time.monotonic()
        step, self.step = self.step, self.step + 1
        due = self._health_due(step)
        seen = None
        if self._sampled() or due:
            fate = self._fate(skipped)
            seen = self._vitals.read_step(step, fate, now - self._ended_at if self._ended_at else None)
        self._vitals.forget_gradients()
        self._open, self._unclosed = seen, True
        if due:
            self._vitals.read_weights(step)
        self._ended_at, self._found_inf = now, None
        self._backward_seen = self._stepped = False
        self._count += 1
        self._vitals.signs.scaler.mark()
        self._vitals.advance()
        self._vitals.arm(self._count)
        return seen

    def _fate(self, skipped: bool) -> torch.Tensor | bool | None:
        """Whether the step was skipped, on the device where only it knows; None where nobody can say."""
        if not self._vitals.signs.scaler.active or self._clock is None:
            return None
        return self._found_inf if self._found_inf is not None else skipped

    def _health_due(self, step: int) -> bool:
        """At multiples of `health_every`, and where the user's numbers jump over one."""
        due = step > 0 and step // self._health_every != self._last_number // self._health_every
        self._last_number = step
        return due


def _owns(optimizer: torch.optim.Optimizer, model: nn.Module) -> bool:
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    return any(id(p) in held for p in model.parameters())
