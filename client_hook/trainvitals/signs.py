"""Which vital signs a set of layers has: the probes, and the columns they fill.

Fixed when it is made. Where layers come or go another one is made, with layouts of its own; a series that is in both
keeps its id.
"""

from typing import Any

import torch
from torch import nn

from trainvitals import wire
from trainvitals.layers import Models, Norm, is_compiled, is_selected, named_modules, named_norms, named_parameters
from trainvitals.options import Options
from trainvitals.probes.clipping import Clipping
from trainvitals.probes.gradients import Gradients
from trainvitals.probes.guard import Guard
from trainvitals.probes.headroom import Headroom
from trainvitals.probes.order import ForwardOrder
from trainvitals.probes.owners import Owners
from trainvitals.probes.progress import Progress
from trainvitals.probes.scaler import Scaler
from trainvitals.probes.shards import is_sharded
from trainvitals.probes.statistics import Statistics
from trainvitals.probes.weights import Weights
from trainvitals.record.columns import Columns, Register
from trainvitals.repair.snapshots import Snapshots
from trainvitals.training import Training


class Signs:
    """The probes of the layers that `training` has now and `options` select. `fast` are the columns of each step,
    `slow` those of every `health_every` steps; where `sharded`, norms in them are squares of this process's part."""

    def __init__(self, training: Training, options: Options, guard: Guard, register: Register) -> None:
        models = training.models

        def chosen(name: str) -> bool:
            return is_selected(name, options.include, options.exclude)

        self.parameters = [(name, p) for name, p in named_parameters(models) if chosen(name)]
        self.norms = [norm for norm in named_norms(models) if chosen(norm.name)]
        modules = [(name, module) for name, module in named_modules(models) if chosen(name)]
        self.compiled = any(is_compiled(model) for model in models.values())
        stateful = {id(norm.module) for norm in self.norms}
        self.order = ForwardOrder([(n, m) for n, m in modules if id(m) in stateful or _owns_parameters(m)])
        self._places: dict[str, int] = {}
        self.fast = Columns(register)
        self.sharded = is_sharded([parameter for _, parameter in self.parameters])
        total = wire.GRAD_NORM + wire.SHARD if self.sharded else wire.GRAD_NORM
        self.progress = Progress(training.optimizers, self.fast, total)
        self.scaler = Scaler(training.scaler, self.fast)
        self.gradients = Gradients(self.parameters, self.fast, guard, options.place.leads)
        self.owners = Owners(self.parameters, training.optimizers)
        self.clipping = Clipping(self.parameters, self.owners.places(training.clock), self.fast)
        self.statistics = _statistics_by_device(self.norms, self.fast)
        self.headroom = Headroom(modules if self._wants_headroom(models) else [], self.fast, guard)
        self.slow = Columns(register)
        self.weights = Weights(self.parameters, training.optimizers, self.slow, options.place.leads)

    def places(self) -> dict[str, int]:
        """Each layer's place in forward order; fixed when it is first asked for, after the first step."""
        if not self._places:
            self._places = self.order.places()
            self.order.detach()
        return self._places

    def learn_order(self) -> None:
        """Listen to the first forward."""
        if not self.compiled:
            self.order.attach()

    def detach(self) -> None:
        """Leave nothing behind on the models."""
        self.order.detach()
        self.headroom.disarm()
        self.gradients.detach()

    def _wants_headroom(self, models: Models) -> bool:
        half = any(p.dtype == torch.float16 for _, p in self.parameters)
        return (self.scaler.active or half) and not self.compiled


def _statistics_by_device(norms: list[Norm], columns: Columns) -> list[tuple[Statistics, Snapshots]]:
    groups: dict[torch.device, list[Any]] = {}
    for norm in norms:
        groups.setdefault(norm.mean.device, []).append(norm)
    probes = [Statistics(group, columns) for group in groups.values()]
    return [(probe, Snapshots(probe.norms, probe.channels)) for probe in probes]


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
