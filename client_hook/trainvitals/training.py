"""What is being trained: the user's own objects, held together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from trainvitals.layers import Models


@dataclass(frozen=True)
class Training:
    """Models and optimizers by key ("" where there is one of each), and what goes with them."""

    models: Models
    optimizers: Mapping[str, torch.optim.Optimizer]
    scaler: torch.amp.GradScaler | None = None
    ema: nn.Module | None = None
    scheduler: Any = None

    @property
    def clock(self) -> torch.optim.Optimizer | None:
        """The optimizer whose steps are the run's, until `watch.step()` is called: the first."""
        return next(iter(self.optimizers.values()), None)
