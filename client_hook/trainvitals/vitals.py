"""The vital signs of a run, read: what the probes give at each moment, on its way to the record.

One vector per step goes to the host in one copy. What is read when is decided by `steps.py`; what is found in the
values by `examining.py`; what is done about a finding by `repair/keeper.py`.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trainvitals import wire
from trainvitals.examining import Examiner
from trainvitals.following import Following
from trainvitals.layers import Norm
from trainvitals.nesting import floating_tensors
from trainvitals.options import Options
from trainvitals.origin.inquiry import Inquiry
from trainvitals.probes.guard import Guard
from trainvitals.probes.statistics import Statistics
from trainvitals.record.columns import Columns, Register
from trainvitals.record.comparison import Comparison
from trainvitals.record.metrics import Metrics, put_value
from trainvitals.record.observation import Observation
from trainvitals.record.stream import Emit, Stream
from trainvitals.record.summary import Summary
from trainvitals.record.transfer import Part, Transfer
from trainvitals.repair.snapshots import Snapshots
from trainvitals.signs import Signs
from trainvitals.survey import describe_change, group_sizes, is_lazy, survey
from trainvitals.training import Training

log = logging.getLogger("trainvitals")


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
        self._training, self._options, self._emit = training, options, emit
        self._register = register = Register()
        self.signs = Signs(training, survey(training, options), guard, register, options.place.leads)
        self.inquiry = Inquiry(training, self.signs, guard, emit, options, folder)
        self.examiner = Examiner(self.signs, emit, self.inquiry, guard, following)
        self._fast, self._slow = self._streams()
        self._metrics = Metrics(register, self._transfer, guard, emit, self._places)

    def _streams(self) -> tuple[Stream, Stream]:
        signs, examiner, leads = self.signs, self.examiner, self._options.place.leads
        short = None if leads else Summary(signs.fast, self._register)
        long = None if leads and not signs.sharded else Summary(signs.slow, self._register)
        fast = Stream(
            signs.fast,
            self._transfer,
            self._emit,
            signs.places,
            examiner.examine,
            examiner.conclude,
            short,
            self._comparison(signs.fast),
        )
        slow = Stream(
            signs.slow,
            self._transfer,
            self._emit,
            signs.places,
            examiner.examine_weights,
            summary=long,
            comparison=self._comparison(signs.slow),
        )
        return fast, slow

    def _comparison(self, columns: Columns) -> Comparison | None:
        """What the ranks are compared by; None where there is nobody to compare with, or nobody knows who it is."""
        place = self._options.place
        return Comparison(columns, self._register) if place.world_size > 1 and place.launch else None

    def _places(self) -> dict[str, int]:
        return self.signs.places()

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
        without = self._final | self.signs.owners.left_over()
        norms = self._guard.run(gradients.name, lambda: gradients.read(scaler.scale(), without), none)
        self._gradient_parts = self._final_parts + norms + self._guard.run(scaler.name, scaler.read, none)
        self._guard.run(self.signs.clipping.name, lambda: self.signs.clipping.begin(scaler.scale()), None)
        self._guard.run(self.inquiry.name, lambda: self.inquiry.end_backward(norms), None)

    def read_clipping(self, optimizer: torch.optim.Optimizer) -> None:
        """Before and after a step of the clock: what clipping has left of the gradients."""
        self._guard.run(self.signs.clipping.name, lambda: self.signs.clipping.end(optimizer), None)

    def freeze_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """`optimizer` has used its gradients: what was read of them is final."""
        owners = self.signs.owners
        if owners.several and self._gradient_parts:
            self._final |= owners.places(optimizer)
            self._final_parts = self._gradient_parts
        owners.use(optimizer)

    def add_gradients(self, seen: Observation | None, optimizer: torch.optim.Optimizer) -> None:
        """`optimizer` has used its gradients within a step that was already read: they are added to it."""
        if seen is not None and self._gradient_parts:
            columns = self.signs.gradients.columns[sorted(self.signs.owners.places(optimizer))]
            parts = self._gradient_parts
            self._guard.run("transfer", lambda: self._fast.submit(seen, parts, only=columns), None)
        self.signs.owners.use(optimizer)

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
        parts += self._guard.run(signs.clipping.name, signs.clipping.read, parts[:0])
        for probe, snapshots in signs.statistics:
            parts += self._guard.run(probe.name, partial(_read_statistics, probe, snapshots, step), parts[:0])
        if isinstance(skipped, torch.Tensor):
            parts.append(Part(slice(signs.scaler.skipped_column, signs.scaler.skipped_column + 1), skipped))
        elif skipped is not None:
            seen.put(signs.scaler.skipped_column, float(skipped))
        hook_time = self._guard.take_cpu()
        self._guard.run(signs.progress.name, lambda: signs.progress.put(seen, step_time, hook_time), None)
        self._guard.run("transfer", lambda: self._fast.submit(seen, parts), None)
        return seen

    def read_weights(self, step: int, fast: Observation | None) -> None:
        """The slow layout; examined in the next `advance`, after this step's statistics, which its verdict includes.
        What the ranks are compared by is told of this and of `fast`, the observation of the same step."""
        seen = self._slow.open(step)
        for one in (seen, fast):
            if one is not None:
                one.compared = True
        weights = self.signs.weights
        self._guard.run(weights.name, lambda: self._slow.submit(seen, weights.read()), None)
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
        self._guard.run("output", lambda: self._add_output(seen, output), None)

    def _add_output(self, seen: Observation, output: Any) -> None:
        found = floating_tensors(output)
        if found:
            counts = [(~torch.isfinite(tensor.detach())).sum() for tensor in found]
            column = slice(self.signs.progress.output, self.signs.progress.output + 1)
            self._fast.submit(seen, [Part(column, torch.stack(counts).sum().float().reshape(1))])

    def add_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """The user's own numbers."""
        self._metrics.add(step, metrics)

    def notify(self, step: int, code: str, text: str) -> None:
        """Something about what is observed that the reader of the run must know."""
        self._emit(wire.Notice(step=step, time=time.time(), code=code, text=text))

    def arm(self, count: int) -> None:
        """After `count` steps: prepare what is measured in the next one alone."""
        headroom = self.signs.headroom
        if headroom.layers:
            self._guard.run(headroom.name, lambda: headroom.arm(count), None)

    # --- which layers there are -----------------------------------------------------------------------------------

    def may_have_changed(self) -> bool:
        """Whether there is a hint that layers have come or gone. Cheap, for every step."""
        found = self.signs.survey
        initialised = bool(found.lazy) and not all(map(is_lazy, found.lazy))
        return initialised or self._guard.take_disabled() or group_sizes(self._optimizers) != found.groups

    def has_changed(self) -> bool:
        """Whether layers have come or gone."""
        return survey(self._training, self._options).key != self.signs.survey.key

    def renew(self, step: int) -> bool:
        """Between two steps: look at the layers, and where they are others than before go on with those there are. True
        if so: then hooks have to be attached anew. In that case, which is rare, it waits for the values under way,
        since they belong to the layers there were."""
        found, earlier = survey(self._training, self._options), self.signs
        if found.key == earlier.survey.key:
            return False
        signs = Signs(self._training, found, self._guard, self._register, self._options.place.leads)
        self.finish()
        signs.take_over(earlier)
        earlier.detach()
        self.signs = signs
        self.inquiry.renew(signs)
        self.examiner = self.examiner.renewed(signs)
        self._fast, self._slow = self._streams()
        self._gradient_parts, self._final_parts, self._final = [], [], set()
        self._guard.forgive()
        text = describe_change(earlier.survey, found)
        log.info("layers changed before step %d; %s", step, text)
        self._emit(wire.Notice(step=step, time=time.time(), code="layers_changed", text=text))
        return True

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


def _read_statistics(probe: Statistics, snapshots: Snapshots, step: int) -> list[Part]:
    parts, values = probe.read()
    snapshots.keep(step, values)
    return parts
