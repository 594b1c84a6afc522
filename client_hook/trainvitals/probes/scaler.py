"""The grad scaler's scale and the steps it skipped, without asking it anything that would synchronise.

The names used here are private to torch and pinned by a test. Nothing is patched.
"""

from collections.abc import Mapping
from typing import Any

import torch

from trainvitals import wire
from trainvitals.record.columns import Columns
from trainvitals.record.transfer import Part

States = Mapping[int, Mapping[str, Any]]  # by the optimizer's id


class Scaler:
    """Watches a `torch.amp.GradScaler`; None or a disabled one has no series."""

    name = "scaler"

    def __init__(self, scaler: torch.amp.GradScaler | None, columns: Columns) -> None:
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        self.mark()
        if self._scaler is not None:
            self._scale_column = slice((c := columns.add("", wire.RUN, wire.LOSS_SCALE)), c + 1)
            self.skipped_column = columns.add("", wire.RUN, wire.SKIPPED)

    @property
    def active(self) -> bool:
        """Whether gradients are scaled."""
        return self._scaler is not None

    def scale(self) -> torch.Tensor | None:
        """The scale the current gradients carry, a 0-d float32 tensor, or None where they are not scaled."""
        return None if self._scaler is None else self._scaler._scale

    def read(self) -> list[Part]:
        """A copy of the scale; it is changed in place by the scaler's update."""
        scale = self.scale()
        return [] if scale is None else [Part(self._scale_column, scale.detach().reshape(1).clone())]

    def advanced(self) -> set[int]:
        """The ids of the optimizers that the scaler has gone through a step of since `mark`; where no hook of theirs
        fired, it skipped them."""
        stepped = _stepped(self._states) - self._stepped
        if (states := self._current_states()) is not self._states:
            stepped |= _stepped(states)
        return stepped

    def mark(self) -> None:
        """At the end of a backward: what the scaler does from here on is about these gradients. An update puts new
        states in the place of the old ones, which still tell what was done; so they are kept."""
        self._states = self._current_states()
        self._stepped = _stepped(self._states)

    def _current_states(self) -> States:
        return {} if self._scaler is None else self._scaler._per_optimizer_states


def _stepped(states: States) -> set[int]:
    return {key for key, state in states.items() if state.get("stage") is torch.amp.grad_scaler.OptState.STEPPED}


def found_inf(optimizer: torch.optim.Optimizer) -> torch.Tensor | None:
    """Within a fused optimizer's step: 1 where the scaler found non-finite gradients and the step did nothing."""
    found = getattr(optimizer, "found_inf", None)
    return found.detach().float().reshape(1).clone() if isinstance(found, torch.Tensor) else None
