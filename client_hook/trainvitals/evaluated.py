"""The network that a validation runs on: the watched ones, one of them, the average, or another."""

import logging
from collections.abc import Mapping

from torch import nn

from trainvitals.layers import Norm, named_norms, named_singles, unwrap
from trainvitals.repair.health import find_issue
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
        return any(self._keeper.tainted(network) or _has_bad_single(network) for network in self._networks.values())

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


def _has_bad_single(network: nn.Module) -> bool:
    """Whether a statistic that is not one of a pair is corrupt."""
    return any(True for _, name, buffer in named_singles(network) for _ in find_issue(name, buffer, "statistics"))


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
