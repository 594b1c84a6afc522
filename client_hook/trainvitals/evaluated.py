"""The network that a validation runs on: the watched ones, one of them, the average, or another."""

import logging
from collections.abc import Mapping

from torch import nn

from trainvitals.layers import Norm, named_norms, unwrap
from trainvitals.repair.keeper import Keeper
from trainvitals.training import Training

log = logging.getLogger("trainvitals")


class Evaluated:
    """`model` as it was given to `watch.validation`; None stands for the watched ones. `name` is what the validation
    is filed under: the key of a watched model, "ema", or the class of any other."""

    def __init__(self, training: Training, keeper: Keeper, model: nn.Module | None) -> None:
        self.model = model
        self.name = "" if model is None else _name(training, model)
        self._networks: Mapping[str, nn.Module] = training.models if model is None else {"": model}
        self._keeper = keeper
        self._updates: dict[int, int] = {}

    def is_corrupt(self) -> bool:
        """Whether any of its statistics is corrupt now, watched or not. Waits for the device."""
        return any(self._keeper.tainted(network) for network in self._networks.values())

    def begin(self) -> None:
        """Remember how often its statistics have been updated."""
        self._updates = {id(norm.module): _updates(norm) for norm in named_norms(self._networks)}

    def end(self, step: int) -> None:
        """Say so if the validation has updated them."""
        norms = list(named_norms(self._networks))
        moved = [norm.name for norm in norms if _updates(norm) != self._updates.get(id(norm.module), 0)]
        if moved:
            log.warning(
                "[WARN] Validation at iter %d updated the running statistics of %d layers (first %s): it ran in train "
                "mode; call model.eval() before it",
                step,
                len(moved),
                moved[0],
            )


def _updates(norm: Norm) -> int:
    count = norm.module._buffers.get("num_batches_tracked")
    return int(count) if count is not None else 0


def _name(training: Training, model: nn.Module) -> str:
    inner = unwrap(model)
    for key, watched in training.models.items():
        if unwrap(watched) is inner:
            return key
    average = training.ema is not None and unwrap(training.ema) is inner
    return "ema" if average else type(inner).__name__
