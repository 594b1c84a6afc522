"""The vital signs of a run, read: what the probes give at each moment, on its way to the record.

One vector per step goes to the host in one copy. What is read when is decided by `steps.py`; what is found in the
values by `examining.py`; what is done about a finding by `repair/keeper.py`.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trainvitals.examining import Examiner
from trainvitals.following import Following
from trainvitals.layers import Norm
from trainvitals.nesting import floating_tensors
from trainvitals.options import Options
from trainvitals.origin.inquiry import Inquiry
from trainvitals.probes.guard import Guard
from trainvitals.record.columns import Register
from trainvitals.record.metrics import Metrics, put_value
from trainvitals.record.observation import Observation
from trainvitals.record.stream import Emit, Stream
from trainvitals.record.summary import Summary
from trainvitals.record.transfer import Part, Transfer
from trainvitals.signs import Signs
from trainvitals.training import Training


class Vitals:
    """Reads everything and emits it."""

    def __init__(
        self,
        training: Training,
        options: Options,
        guard: Guard,
        emit: Emit,
        folder: Callable[[], Path | None],
        following: Following,
    ) -> None:
        self.following = following
        self._optimizers = training.optimizers
        self._guard = guard
        self._transfer = Transfer()
        self._gradient_parts: list[Part] = []
        self._final_parts: list[Part] = []
        self._final: set[int] = set()
        register = Register()
        self.signs = Signs(training, options, guard, register)
        self.inquiry = Inquiry(training, self.signs, guard, emit, folder if options.keep_batches else None)
        self.examiner = Examiner(self.signs, emit, self.inquiry, following)
        places = self.signs.places
        examiner = self.examiner
        short = None if options.place.leads else Summary(self.signs.fast, register)
        long = None if options.place.leads and not self.signs.sharded else Summary(self.signs.slow, register)
        self._fast = Stream(self.signs.fast, self._transfer, emit, places, examiner.examine, examiner.conclude, short)
        self._slow = Stream(self.signs.slow, self._transfer, emit, places, examiner.examine_weights, summary=long)
        self._metrics = Metrics(register, self._transfer, guard, emit, places)
        self._places_of = {id(o): self.signs.gradients.places_of(o) for o in training.optimizers.values()}

    @property
    def norms(self) -> list[Norm]:
        """The watched layers with running statistics."""
        return self.signs.norms

    @property
    def dropped(self) -> int:
        """Steps whose values never reached the host."""
        return self._transfer.dropped

    # --- what is read ---------------------------------------------------------------------------------------------

    def read_gradients(self) -> None:
        """At the end of a backward: the norms of this step so far."""
        none: list[Part] = []
        gradients, scaler = self.signs.gradients, self.signs.scaler
        norms = self._guard.run(gradients.name, lambda: gradients.read(scaler.scale(), self._final), none)
        self._gradient_parts = self._final_parts + norms + self._guard.run(scaler.name, scaler.read, none)
        self._guard.run(self.inquiry.name, lambda: self.inquiry.end_backward(norms), None)

    def freeze_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """`optimizer` has used its gradients: what was read of them is final, and what a later backward adds to them
        (a generator's, through the discriminator) is none of its business."""
        if len(self._optimizers) > 1:
            self._final |= self._places_of[id(optimizer)]
            self._final_parts = self._gradient_parts

    def forget_gradients(self) -> None:
        """The step has ended."""
        self.inquiry.forget()
        self._gradient_parts, self._final_parts, self._final = [], [], set()

    def read_step(self, step: int, skipped: bool | torch.Tensor | None, step_time: float | None) -> Observation:
        """At the end of a step: everything that is read then, joined with the gradients read before."""
        seen = self._fast.open(step)
        signs = self.signs
        self._guard.run(self.inquiry.name, lambda: self.inquiry.end_step(seen, skipped is True), None)
        parts = list(self._gradient_parts)
        parts += self._guard.run(signs.headroom.name, signs.headroom.collect, parts[:0])
        for probe, snapshots in signs.statistics:
            reading = self._guard.run(probe.name, probe.read, None)
            if reading is not None:
                parts += reading[0]
                snapshots.keep(step, reading[1])
        if isinstance(skipped, torch.Tensor):
            parts.append(Part(slice(signs.scaler.skipped_column, signs.scaler.skipped_column + 1), skipped))
        elif skipped is not None:
            seen.put(signs.scaler.skipped_column, float(skipped))
        hook_time = self._guard.take_cpu()
        self._guard.run(signs.progress.name, lambda: signs.progress.put(seen, step_time, hook_time), None)
        self._fast.submit(seen, parts)
        return seen

    def read_weights(self, step: int) -> None:
        """The slow layout; examined in the next `advance`, after this step's statistics, which its verdict includes."""
        seen = self._slow.open(step)
        self._slow.submit(seen, self._guard.run(self.signs.weights.name, self.signs.weights.read, []))
        seen.sealed = True

    def forget_averages(self, layers: Collection[str]) -> None:
        """The running statistics of these layers were written, not trained. May wait for the device."""
        for probe, _ in self.signs.statistics:
            self._guard.run(probe.name, partial(probe.forget, layers), None)

    def add_loss(self, seen: Observation, loss: Any) -> None:
        """The user's loss: a tensor, copied now since it may be changed in place later, or a number."""
        column = self.signs.progress.loss
        self._guard.run("loss", lambda: put_value(self._fast, seen, column, loss), None)

    def add_output(self, seen: Observation, output: Any) -> None:
        """The network's output, as a tensor or nested: its non-finite elements are counted, on its device."""
        found = floating_tensors(output)
        if found:
            counts = [(~torch.isfinite(tensor.detach())).sum() for tensor in found]
            column = slice(self.signs.progress.output, self.signs.progress.output + 1)
            parts = [Part(column, torch.stack(counts).sum().float().reshape(1))]
            self._guard.run("output", lambda: self._fast.submit(seen, parts), None)

    def add_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """The user's own numbers."""
        self._metrics.add(step, metrics)

    def arm(self, count: int) -> None:
        """After `count` steps: prepare what is measured in the next one alone."""
        headroom = self.signs.headroom
        self._guard.run(headroom.name, lambda: headroom.arm(count), None)

    # --- where it goes --------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Take in what has arrived and hand on what is complete."""
        self._transfer.poll()
        self._fast.advance()
        self._slow.advance()
        self._metrics.advance()

    def finish(self) -> None:
        """The same, waiting for what is under way; for the end of training only."""
        self._transfer.finish()
        self.advance()

    def announce_again(self) -> None:
        """Another producer begins: it needs the layouts too."""
        self._fast.announce_again()
        self._slow.announce_again()
        self._metrics.announce_again()
