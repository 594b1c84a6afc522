"""The vital signs of a run: all probes, the columns they fill, and what is found in their values.

One vector per step goes to the host in one copy. What is read when is decided by `steps.py`; what is done about a
finding by `repair/keeper.py`.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainvitals import wire
from trainvitals.layers import Models, is_compiled, is_selected, named_modules, named_norms, named_parameters
from trainvitals.nesting import floating_tensors
from trainvitals.options import Options
from trainvitals.probes.gradients import Gradients
from trainvitals.probes.guard import Guard
from trainvitals.probes.headroom import Headroom
from trainvitals.probes.order import ForwardOrder
from trainvitals.probes.scaler import Scaler
from trainvitals.probes.statistics import Statistics
from trainvitals.probes.weights import Weights
from trainvitals.record.columns import Columns
from trainvitals.record.findings import Context, GradientFindings, ResultFindings, StatisticsFindings, health_check
from trainvitals.record.observation import Observation
from trainvitals.record.stream import Emit, Stream
from trainvitals.record.transfer import Part, Transfer
from trainvitals.repair.snapshots import Snapshots
from trainvitals.training import Training

log = logging.getLogger("trainvitals")

HEADROOM_EVERY = 20  # steps; health rule 1
NAMED = 12  # tensors named in one log entry
_SLOW_IDS, _METRIC_IDS = 1 << 20, 1 << 21
Watcher = Callable[[Observation, set[str]], None]


class Vitals:
    """Reads everything and emits it. `on_statistics` is told of each examined step and the layers corrupt in it."""

    def __init__(
        self,
        training: Training,
        options: Options,
        guard: Guard,
        emit: Emit,
    ) -> None:
        models = training.models
        self._optimizers = training.optimizers
        self._guard = guard
        self._emit = emit
        self._transfer = Transfer()
        self._compiled = any(is_compiled(model) for model in models.values())
        self._gradient_parts: list[Part] = []
        self._final_parts: list[Part] = []
        self._final: set[int] = set()
        self.on_statistics: Watcher = lambda seen, bad: None
        self.headroom_seen: dict[str, float] = {}
        self.nan_grad_steps = 0  # examined steps in which a gradient was not finite

        def chosen(name: str) -> bool:
            return is_selected(name, options.include, options.exclude)

        self.parameters = [(name, p) for name, p in named_parameters(models) if chosen(name)]
        self.norms = [norm for norm in named_norms(models) if chosen(norm.name)]
        modules = [(name, module) for name, module in named_modules(models) if chosen(name)]
        stateful = {id(norm.module) for norm in self.norms}
        self.order = ForwardOrder([(n, m) for n, m in modules if id(m) in stateful or _owns_parameters(m)])
        self.columns = Columns(layout=0)
        self._add_run_columns()
        self.scaler = Scaler(training.scaler, self.columns)
        self.gradients = Gradients(self.parameters, self.columns)
        self.statistics = self._statistics_by_device()
        self.headroom = Headroom(modules if self._wants_headroom(models) else [], self.columns, guard)
        self._places: dict[str, int] = {}
        self._gradient_findings = GradientFindings([name for name, _ in self.parameters], self.gradients.columns)
        self._statistics_findings = [
            StatisticsFindings([n.name for n in probe.norms], probe.channels, probe.columns)
            for probe, _ in self.statistics
        ]
        self._result_findings = ResultFindings(self._loss_column, self._output_column)
        self.fast = Stream(self.columns, self._transfer, emit, self.places, self._examine, self._conclude)
        slow = Columns(layout=1, first_id=_SLOW_IDS)
        self.weights = Weights(self.parameters, training.optimizers, slow)
        self.slow = Stream(slow, self._transfer, emit, self.places, self._examine_weights)
        self._metrics = Stream(Columns(layout=1, first_id=_METRIC_IDS), self._transfer, emit, self.places)
        self._places_of = {id(o): self.gradients.places_of(o) for o in training.optimizers.values()}
        self.forget_gradients()

    # --- what is read ---------------------------------------------------------------------------------------------

    def read_gradients(self) -> None:
        """At the end of a backward: the norms of this step so far."""
        none: list[Part] = []
        scale = self.scaler.scale()
        norms = self._guard.run(self.gradients.name, lambda: self.gradients.read(scale, self._final), none)
        self._gradient_parts = self._final_parts + norms + self._guard.run(self.scaler.name, self.scaler.read, none)

    def freeze_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """`optimizer` has used its gradients: what was read of them is final, and what a later backward adds to them
        (a generator's, through the discriminator) is none of its business."""
        if len(self._optimizers) > 1:
            self._final |= self._places_of[id(optimizer)]
            self._final_parts = self._gradient_parts

    def forget_gradients(self) -> None:
        """The step has ended."""
        self._gradient_parts, self._final_parts, self._final = [], [], set()

    def read_step(self, step: int, skipped: bool | torch.Tensor | None, step_time: float | None) -> Observation:
        """At the end of a step: everything that is read then, joined with the gradients read before."""
        seen = self.fast.open(step)
        parts = list(self._gradient_parts)
        parts += self._guard.run(self.headroom.name, self.headroom.collect, parts[:0])
        for probe, snapshots in self.statistics:
            reading = self._guard.run(probe.name, probe.read, None)
            if reading is not None:
                parts += reading[0]
                snapshots.keep(step, reading[1])
        if isinstance(skipped, torch.Tensor):
            parts.append(Part(slice(self.scaler.skipped_column, self.scaler.skipped_column + 1), skipped))
        elif skipped is not None:
            seen.put(self.scaler.skipped_column, float(skipped))
        self._guard.run("progress", lambda: self._put_progress(seen, step_time), None)
        self.fast.submit(seen, parts)
        return seen

    def read_weights(self, step: int) -> None:
        """The slow layout; examined in the next `advance`, after this step's statistics, which its verdict includes."""
        seen = self.slow.open(step)
        self.slow.submit(seen, self._guard.run(self.weights.name, self.weights.read, []))
        seen.sealed = True

    def add_loss(self, seen: Observation, loss: Any) -> None:
        """The user's loss: a tensor, copied now since it may be changed in place later, or a number."""
        self._guard.run("loss", lambda: self._add(self.fast, seen, self._loss_column, loss), None)

    def add_output(self, seen: Observation, output: Any) -> None:
        """The network's output, as a tensor or nested: its non-finite elements are counted, on its device."""
        found = floating_tensors(output)
        if found:
            counts = [(~torch.isfinite(tensor.detach())).sum() for tensor in found]
            column = slice(self._output_column, self._output_column + 1)
            parts = [Part(column, torch.stack(counts).sum().float().reshape(1))]
            self._guard.run("output", lambda: self.fast.submit(seen, parts), None)

    def add_metrics(self, step: int, metrics: Mapping[str, Any]) -> None:
        """The user's own numbers. New names begin a new layout of the same series ids."""
        if any(("", wire.METRIC, name) not in self._metrics.columns for name in metrics):
            names = [stat for _, _, stat in self._metrics.columns.series_keys()]
            columns = Columns(self._metrics.columns.layout + 1, _METRIC_IDS)
            for name in dict.fromkeys([*names, *metrics]):
                columns.add("", wire.METRIC, name)
            self._metrics = Stream(columns, self._transfer, self._emit, self.places)
        seen = self._metrics.open(step)
        for name, value in metrics.items():
            column = self._metrics.columns.add("", wire.METRIC, name)
            self._guard.run(f"metric {name}", partial(self._add, self._metrics, seen, column, value), None)
        seen.sealed = True
        self._metrics.advance()

    def arm(self, count: int) -> None:
        """After `count` steps: prepare what is measured in the next one alone."""
        if count % HEADROOM_EVERY == 0:
            self._guard.run(self.headroom.name, self.headroom.arm, None)

    def advance(self) -> None:
        """Take in what has arrived and hand on what is complete."""
        self._transfer.poll()
        for stream in (self.fast, self.slow, self._metrics):
            stream.advance()

    def finish(self) -> None:
        """The same, waiting for what is under way; for the end of training only."""
        self._transfer.finish()
        self.advance()

    @property
    def dropped(self) -> int:
        """Steps whose values never reached the host."""
        return self._transfer.dropped

    # --- which layers there are -----------------------------------------------------------------------------------

    def places(self) -> dict[str, int]:
        """Each layer's place in forward order; fixed when it is first asked for, after the first step."""
        if not self._places:
            self._places = self.order.places()
            self.order.detach()
        return self._places

    def announce_again(self) -> None:
        """Another producer begins: it needs the layouts too."""
        for stream in (self.fast, self.slow, self._metrics):
            stream.announce_again()

    def learn_order(self) -> None:
        """Listen to the first forward."""
        if not self._compiled:
            self.order.attach()

    def detach(self) -> None:
        """Leave nothing behind on the model."""
        self.order.detach()
        self.headroom.disarm()
        self.gradients.detach()

    @property
    def corrupt(self) -> set[str]:
        """The layers whose statistics were corrupt when last seen."""
        return set().union(*(findings.bad for findings in self._statistics_findings))

    def _statistics_by_device(self) -> "list[tuple[Statistics, Snapshots]]":
        groups: dict[torch.device, list[Any]] = {}
        for norm in self.norms:
            groups.setdefault(norm.mean.device, []).append(norm)
        probes = [Statistics(norms, self.columns) for norms in groups.values()]
        return [(probe, Snapshots(probe.norms, probe.channels)) for probe in probes]

    def _wants_headroom(self, models: Models) -> bool:
        half = any(p.dtype == torch.float16 for _, p in self.parameters)
        return (self.scaler.active or half) and not self._compiled

    def _add_run_columns(self) -> None:
        self._loss_column = self.columns.add("", wire.RUN, wire.LOSS)
        self._output_column = self.columns.add("", wire.RUN, wire.OUTPUT_NONFINITE)
        self._total_column = self.columns.add("", wire.RUN, wire.GRAD_NORM)
        self._step_time_column = self.columns.add("", wire.RUN, wire.STEP_TIME)
        self._hook_time_column = self.columns.add("", wire.RUN, wire.HOOK_TIME)
        groups = [group for optimizer in self._optimizers.values() for group in optimizer.param_groups]
        names = [wire.LEARNING_RATE + (f".{i}" if i else "") for i in range(len(groups))]
        self._rate_columns = [self.columns.add("", wire.RUN, name) for name in names]

    # --- what is found --------------------------------------------------------------------------------------------

    def _put_progress(self, seen: Observation, step_time: float | None) -> None:
        groups = [group for optimizer in self._optimizers.values() for group in optimizer.param_groups]
        for column, group in zip(self._rate_columns, groups, strict=False):
            if isinstance(rate := group.get("lr"), float | int):
                seen.put(column, float(rate))
        if step_time is not None:
            seen.put(self._step_time_column, step_time)
        seen.put(self._hook_time_column, self._guard.take_cpu())

    def _add(self, stream: Stream, seen: Observation, column: int, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            copied = value.detach().float().mean().reshape(1)
            # a single float32 element passes through all of that as a view, so copy it
            stream.submit(seen, [Part(slice(column, column + 1), copied.clone())])
        elif value is not None:
            seen.put(column, float(value))

    def _examine(self, seen: Observation) -> None:
        places = self.places()
        for layer, column in zip(self.headroom.layers, self.headroom.columns, strict=True):
            if seen.present[column]:
                self.headroom_seen[layer] = float(seen.values[column])
        skipped = self.scaler.active and bool(seen.values[self.scaler.skipped_column] > 0)
        context = Context(skipped, self.headroom_seen, places)
        norms = seen.values[self.gradients.columns][seen.present[self.gradients.columns]]
        if norms.size:
            with np.errstate(all="ignore"):
                seen.put(self._total_column, float(np.sqrt(np.square(norms.astype(np.float64)).sum())))
        self._tell_of_gradients(self._gradient_findings.examine(seen, context), seen.step, norms, skipped)
        for findings, (_, snapshots) in zip(self._statistics_findings, self.statistics, strict=True):
            for event in findings.examine(seen, context):
                self._emit(event)
            snapshots.judge(seen.step, not findings.bad)
        self.on_statistics(seen, self.corrupt)

    def _tell_of_gradients(
        self, events: list[wire.NonFinite], step: int, norms: npt.NDArray[np.float32], skipped: bool
    ) -> None:
        """Count the step if a gradient in it is not finite; say so where that is news."""
        broken = int(np.count_nonzero(~np.isfinite(norms)))
        self.nan_grad_steps += bool(broken)
        if events:
            log.warning(
                "[NaN GRAD] iter %d: %d of %d gradients not finite, first %s%s (%d such steps so far)",
                step,
                broken,
                norms.size,
                events[0].layer,
                ", step skipped by the grad scaler" if skipped else "",
                self.nan_grad_steps,
            )
        for event in events:
            self._emit(event)

    def _conclude(self, seen: Observation) -> None:
        """Once loss and output are known too."""
        skipped = self.scaler.active and bool(seen.values[self.scaler.skipped_column] > 0)
        for event in self._result_findings.examine(seen, Context(skipped, self.headroom_seen, self.places())):
            log.warning("[NaN %s] iter %d: %s", event.signal.upper(), event.step, event.kind)
            self._emit(event)

    def _examine_weights(self, seen: Observation) -> None:
        wrong = [
            f"{name}.{stat}"
            for (name, _), pair in zip(
                self.parameters,
                zip(self.weights.weight_columns, self.weights.moment_columns, strict=True),
                strict=True,
            )
            for stat, column in zip(("weight", "moments"), pair, strict=True)
            if seen.present[column] and not np.isfinite(seen.values[column])
        ]
        statistics = [f"{layer}.running_statistics" for layer in sorted(self.corrupt)]
        keys = [*statistics, *wrong]
        serious = "weights or moments! More serious: no repair of statistics brings them back."
        for found, what in ((statistics, "stats!"), (wrong, serious)):
            if found:
                named = "".join(f"\n  - {key}" for key in found[:NAMED])
                log.warning("[HEALTH CHECK] iter %d: Found %d corrupted %s%s", seen.step, len(found), what, named)
        if not keys:
            log.info("[HEALTH CHECK] iter %d: Model health OK", seen.step)
        self._emit(health_check(seen.step, seen.time, "health", keys))


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
