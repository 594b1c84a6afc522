"""Which vital signs a set of layers has: the probes, and the columns they fill.

Fixed when it is made. Where layers come or go another one is made, with layouts of its own; a series that is in both
keeps its id.
"""

from typing import Any

import torch
from torch import nn

from trainvitals import wire
from trainvitals.layers import Norm
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
from trainvitals.survey import Survey
from trainvitals.training import Training


class Signs:
    """The probes of the layers that were `found` in `training`. `fast` are the columns of each step, `slow` those of
    every `health_every` steps; where `sharded`, norms in them are squares of this process's part. `leads`: this process
    counts for what is the same on all of them."""

    def __init__(self, training: Training, found: Survey, guard: Guard, register: Register, leads: bool = True) -> None:
        self.survey = found
        self.parameters, self.norms = found.parameters, found.norms
        stateful = {id(norm.module) for norm in self.norms}
        self.order = ForwardOrder([(n, m) for n, m in found.modules if id(m) in stateful or _owns_parameters(m)])
        self._places: dict[str, int] = {}
        self.fast = Columns(register)
        self.sharded = is_sharded([parameter for _, parameter in self.parameters])
        total = wire.GRAD_NORM + wire.SHARD if self.sharded else wire.GRAD_NORM
        self.progress = Progress(training.optimizers, self.fast, total)
        self.scaler = Scaler(training.scaler, self.fast)
        self.gradients = Gradients(self.parameters, self.fast, guard, leads)
        self.owners = Owners(self.parameters, training.optimizers)
        self.clipping = Clipping(self.parameters, self.owners.places(training.clock), self.fast)
        self.statistics = _statistics_by_device(self.norms, self.fast)
        self.headroom = Headroom(found.modules if self._wants_headroom() else [], self.fast, guard)
        self.slow = Columns(register)
        self.weights = Weights(self.parameters, training.optimizers, self.slow, leads)

    def places(self) -> dict[str, int]:
        """Each layer's place in forward order; fixed when it is first asked for, after the first step."""
        if not self._places:
            self._places = self.order.places()
        return self._places

    def take_over(self, earlier: "Signs") -> None:
        """Go on with what is known of the layers that were there before."""
        norms = {norm.name: id(norm.module) for norm in earlier.norms}
        kept = {norm.name for norm in self.norms if norms.get(norm.name) == id(norm.module)}
        for probe, snapshots in self.statistics:
            for before, past in earlier.statistics:
                snapshots.take_over(past, kept)
                probe.take_over(before)

    def learn_order(self) -> None:
        """Listen to the first forward."""
        if not self.survey.compiled:
            self.order.attach()

    def detach(self) -> None:
        """Leave nothing behind on the models."""
        self.order.detach()
        self.headroom.detach()
        self.gradients.detach()

    def _wants_headroom(self) -> bool:
        half = any(p.dtype == torch.float16 for _, p in self.parameters)
        return (self.scaler.active or half) and not self.survey.compiled


def _statistics_by_device(norms: list[Norm], columns: Columns) -> list[tuple[Statistics, Snapshots]]:
    groups: dict[torch.device, list[Any]] = {}
    for norm in norms:
        groups.setdefault(norm.mean.device, []).append(norm)
    probes = [Statistics(group, columns) for group in groups.values()]
    return [(probe, Snapshots(probe.norms, probe.channels)) for probe in probes]


def _owns_parameters(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
