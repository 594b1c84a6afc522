"""How the training itself gets on: learning rates, step time, the hook's own time; and the columns of what the loop
gives: loss, output, total gradient norm."""

from collections.abc import Mapping

import torch

from trainvitals import wire
from trainvitals.record.columns import Columns
from trainvitals.record.observation import Observation


class Progress:
    """The series of the run as a whole; `total` is the statistic under which its gradient norm is told."""

    name = "progress"

    def __init__(
        self, optimizers: Mapping[str, torch.optim.Optimizer], columns: Columns, total: str = wire.GRAD_NORM
    ) -> None:
        self._optimizers = list(optimizers.values())
        self.loss = columns.add("", wire.RUN, wire.LOSS)
        self.output = columns.add("", wire.RUN, wire.OUTPUT_NONFINITE)
        self.total = columns.add("", wire.RUN, total)
        self._step_time = columns.add("", wire.RUN, wire.STEP_TIME)
        self._hook_time = columns.add("", wire.RUN, wire.HOOK_TIME)
        groups = sum(len(optimizer.param_groups) for optimizer in self._optimizers)
        names = [wire.LEARNING_RATE + (f".{i}" if i else "") for i in range(groups)]
        self._rates = [columns.add("", wire.RUN, name) for name in names]

    def put(self, seen: Observation, step_time: float | None, hook_time: float) -> None:
        """Fill in what is known on the host; times in seconds."""
        groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]
        for column, group in zip(self._rates, groups, strict=False):
            if isinstance(rate := group.get("lr"), float | int):
                seen.put(column, float(rate))
        if step_time is not None:
            seen.put(self._step_time, step_time)
        seen.put(self._hook_time, hook_time)
