"""When does a step end, and when is it safe to change a model's buffers?

A step's end is seen in one of two ways. Until the first `watch.step()` it is the step of the clock optimizer (the first
one given), or the scaler skipping that step, which no hook reports: it is noticed when the next forward begins. From
the first `watch.step()` on, only that call ends a step.

The observation of an implicit step stays open until the next step begins, so that a `watch.step(loss=...)` that follows
the optimizer belongs to the same step.

A model's buffers are changed only at its safe points: in `watch.step()`, or until that is called after a step of each
optimizer that owns parameters of the model (those steps have ended every graph that used them), and on entering
validation or save. Anywhere else a backward may still need them (the version counter would raise).
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from trainvitals.hooks import capturing, listen
from trainvitals.layers import is_compiled, unwrap
from trainvitals.probes.guard import Guard
from trainvitals.probes.scaler import found_inf
from trainvitals.record.observation import Observation
from trainvitals.release import Release
from trainvitals.sampling import Sampling
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
        self._clock = training.clock
        self._vitals = vitals
        self._guard = guard
        self._sampling = Sampling(every, lambda code, text: vitals.notify(self.last, code, text))
        self._health_every = health_every
        self._safe_point = safe_point
        self._last_number = start - 1 if start else 0
        self._explicit = False
        self._several = len(self._optimizers) > 1
        self._look = False  # whether layers may have come or gone
        self._unclosed = False  # a step ended implicitly, and the next has not begun
        self._open: Observation | None = None  # its observation, where it was sampled
        self._backward_seen = False
        self._stepped: set[int] = set()  # the optimizers that stepped since the last backward
        self._awaited = {id(o) for o in self._optimizers.values()}  # those that stepped since their last one
        self._release = Release(self._models, self._optimizers)
        self._used: set[int] = set()  # those whose step came after the clock's, in the step that is open
        self._leading: set[int] = set()  # those whose step comes before the clock's, as the first iteration showed
        self._skip_seen = False  # within the explicit step under way
        self._found_inf: torch.Tensor | None = None  # by fused optimizers; their steps are called all the same
        self.ended_at: float | None = None  # when the last step ended, monotonic seconds
        self.thread = threading.get_ident()  # which ends the steps
        self._handles: list[RemovableHandle] = []

    def attach(self) -> None:
        """Hook the optimizers, a few parameters, and the forward of each eager model."""
        for optimizer in self._optimizers.values():
            self._handles.append(optimizer.register_step_post_hook(self._on_optimizer_step))
        if self._clock is not None:
            self._handles.append(self._clock.register_step_pre_hook(self._before_clock_step))
        for model in self._models.values():
            if not is_compiled(model):
                self._handles.append(listen(self, unwrap(model)))
        self._attach_probes()
        self._vitals.inquiry.attach()

    def _attach_probes(self) -> None:
        """At the beginning, and whenever the layers are others than before."""
        self._release.look()
        self._vitals.signs.gradients.attach(self._on_backward_end)
        self._vitals.signs.learn_order()
        self._arm()

    def _look_at_layers(self) -> None:
        """Between two steps, where no observation is open."""
        if self._look:
            self._look = False
            self._guard.run("layers", self._renew, None)

    def _renew(self) -> None:
        if self._vitals.renew(self.step):
            self._attach_probes()

    def detach(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._vitals.signs.detach()
        self._vitals.inquiry.close()

    def note_break(self) -> None:
        """Something broke: every step counts for a while."""
        self._sampling.note_break()

    @property
    def last(self) -> int:
        """The step that ended last; the first one's number before it."""
        return max(self.step - 1, 0)

    @property
    def ended(self) -> int:
        """How many steps have ended."""
        return self._sampling.count

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
        """End the step that the scaler skipped, where nothing else has told of it. An explicit step only keeps that in
        mind: other optimizers may still step in it."""
        if self._is_skip():
            if self._explicit:
                self._skip_seen = True
            elif self._clock is not None:
                self._release.turn(self._clock)  # it is no safe point any more, but it was its turn
                self._finish(skipped=True)

    def on_forward(self, module: nn.Module, args: tuple[Any, ...], place: int) -> None:
        """The next step begins: what is open is whole."""
        if not self.paused and torch.is_grad_enabled() and any(unwrap(m) is module for m in self._models.values()):
            self._vitals.signs.gradients.rearm()
            self._guard.run("step", self._begin, None)

    # --- what the hooks call --------------------------------------------------------------------------------------

    def _on_backward_end(self) -> None:
        if not self.paused and not capturing():
            self._guard.run("step", self._backward_ended, None)

    def _begin(self) -> None:
        """The clock's next step begins. With several optimizers what follows may belong to the others' part of the
        same step, so it stays open until the clock's next step ends."""
        if self._several:
            skipped = self._skipped_now()
            self.notice_skip()
            self._notice_other_skips(skipped)
            if self._look and len(self._used | self._leading) == len(self._optimizers) - 1:
                self._look_in_between()
        else:
            self.settle()
            self._look_at_layers()

    def _backward_ended(self) -> None:
        self._begin()  # where no forward hook could (compiled models)
        self._backward_seen = True
        self._stepped.clear()
        self._awaited.clear()
        self._vitals.signs.scaler.mark()
        if self._sampled() or (self._several and self._open is not None):
            self._vitals.read_gradients()

    def _before_clock_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not capturing():
            self._vitals.read_clipping(optimizer)

    def _on_optimizer_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if capturing():
            return
        self._guard.run("step", lambda: self._optimizer_stepped(optimizer), None)
        if not self._explicit:
            self._guard.run("repair", lambda: self._safe_point(self._release.turn(optimizer)), None)

    def _optimizer_stepped(self, optimizer: torch.optim.Optimizer) -> None:
        if id(optimizer) in self._awaited:
            self._vitals.signs.gradients.ensure_anchored(self._on_backward_end)
        self._awaited.add(id(optimizer))
        self._stepped.add(id(optimizer))
        self._gradients_used(optimizer)
        if optimizer is self._clock:
            self._vitals.read_clipping(optimizer)  # where a closure did the backward, it has come only now
        if optimizer is self._clock or self._explicit:
            self._note_found_inf(optimizer)
        if optimizer is self._clock and not self._explicit:
            self._finish(skipped=False)

    def _gradients_used(self, optimizer: torch.optim.Optimizer) -> None:
        """By a step of their optimizer, or by one that the scaler skipped. Until `watch.step()` a step of another
        optimizer belongs to the clock's step before it, unless it was the first to step in the first iteration."""
        if optimizer is not self._clock and not self._sampling.count:
            self._leading.add(id(optimizer))
        if self._explicit or optimizer is self._clock or id(optimizer) in self._leading:
            self._vitals.freeze_gradients(optimizer)
        else:
            self._used.add(id(optimizer))
            self._vitals.add_gradients(self._open, optimizer)

    def _notice_other_skips(self, skipped: set[int]) -> None:
        for optimizer in self._optimizers.values():
            if optimizer is not self._clock and id(optimizer) in skipped:
                self._stepped.add(id(optimizer))  # it has had its turn
                self._release.turn(optimizer)
                self._gradients_used(optimizer)

    def _note_found_inf(self, optimizer: torch.optim.Optimizer) -> None:
        found = found_inf(optimizer) if self._vitals.signs.scaler.active else None
        if found is not None and self._found_inf is not None:
            found = torch.maximum(found, self._found_inf.to(found.device, non_blocking=True))
        self._found_inf = self._found_inf if found is None else found

    def _skipped_now(self) -> set[int]:
        """The optimizers (by id) whose step the scaler skipped since the last backward."""
        if not self._backward_seen:
            return set()
        return self._vitals.signs.scaler.advanced() - self._stepped

    def _is_skip(self) -> bool:
        """Whether the scaler skipped a step. Until `watch.step()` only the clock's own count."""
        counted = list(self._optimizers.values()) if self._explicit else [self._clock]
        return not self._skipped_now().isdisjoint(map(id, counted))

    def _sampled(self) -> bool:
        return self._sampling.due

    def _arm(self) -> None:
        if self._sampling.due:
            self._vitals.arm(self._sampling.count)

    # --- ending a step --------------------------------------------------------------------------------------------

    def _end(self, step: int | None, loss: Any, output: Any, metrics: Mapping[str, Any]) -> None:
        if step is not None:
            self._renumber(step)
        seen = self._open if self._unclosed else self._finish(skipped=self._skip_seen or self._is_skip())
        self._explicit, self._unclosed, self._open = True, False, None
        if seen is not None:
            self._vitals.add_loss(seen, loss)
            self._vitals.add_output(seen, output)
            seen.sealed = True
        if metrics:
            self._vitals.add_metrics(self.step - 1, metrics)
        self._vitals.advance()
        self._safe_point(set(self._models))
        self._look_at_layers()

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
        took = now - self.ended_at if self.ended_at else None
        if skipped or due or self._sampled():
            seen = self._vitals.read_step(step, self._fate(skipped), took)
        self._vitals.forget_gradients()
        self._open, self._unclosed = seen, True
        if due:
            self._vitals.read_weights(step, seen)
        self.ended_at, self._found_inf, self.thread = now, None, threading.get_ident()
        self._backward_seen = self._skip_seen = False
        self._stepped.clear()
        self._sampling.end(took)
        self._vitals.signs.scaler.mark()
        self._vitals.advance()
        self._arm()
        self._used.clear()
        late = self._look
        self._look |= due or self._guard.run("layers", self._vitals.may_have_changed, False)
        if late and self._several and not self._explicit:
            self._look_in_between()
        return self._open

    def _look_in_between(self) -> None:
        """With several optimizers an implicit step stays open until the next one ends; where layers have come or gone
        it is closed for them."""
        if not self._guard.run("layers", self._vitals.has_changed, False):
            self._look = False
        else:
            if self._open is not None:
                self._open.sealed = True
                self._open = None
            self._look_at_layers()

    def _fate(self, skipped: bool) -> torch.Tensor | bool | None:
        """Whether the step was skipped, on the device where only it knows; None where nobody can say."""
        if not self._vitals.signs.scaler.active or self._clock is None:
            return None
        return self._found_inf if self._found_inf is not None and not skipped else skipped

    def _health_due(self, step: int) -> bool:
        """At multiples of `health_every`, and where the user's numbers jump over one."""
        due = step > 0 and step // self._health_every != self._last_number // self._health_every
        self._last_number = step
        return due
