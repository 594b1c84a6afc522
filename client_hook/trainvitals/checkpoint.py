"""Checkpoints that are whole or not there, and never silently corrupt.

A save goes to a temporary file in the same folder, is synced, and takes the old one's place in one rename: a process
killed at any byte leaves the previous checkpoint as it was. A state with corrupt tensors is refused under its own
name and kept beside it as PATH.unhealthy, with a report PATH.unhealthy.json. What is written holds only types that
torch's weights-only loader accepts, and nothing else is ever loaded.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainvitals.errors import CheckpointError
from trainvitals.repair.health import HealthReport
from trainvitals.storage.examining import find_issues, repair_loaded
from trainvitals.storage.randomness import restore_rng_state
from trainvitals.storage.restoring import find_part, make_plan, put, read
from trainvitals.storage.writing import refuse_corrupt, storable_state, write_state

log = logging.getLogger("trainvitals")
PathLike = str | os.PathLike[str]
Several = Mapping[str, Any] | Sequence[Any]  # of models, optimizers, schedulers: by name or in order

# What a checkpoint of `watch.save_checkpoint` holds of its own; everything else in it is the user's.
RESERVED = ("model", "optimizer", "scaler", "scheduler", "ema", "rng", "run", "step", "metric", "best_metric", "extra")


@dataclass(frozen=True)
class CheckpointResult:
    """What became of a save; false when nothing was written under the name asked for. `unhealthy` is where a refused
    state was kept, `reason` why it was refused, failed, or is not the best."""

    outcome: str  # saved, refused, failed
    path: Path
    best: bool = False
    key: str | None = None
    reason: str = ""
    unhealthy: Path | None = None

    def __bool__(self) -> bool:
        return self.outcome == "saved"


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What was in a checkpoint; `watch(..., resume=loaded)` goes on from it.

    `health` is that of statistics, weights and optimizer state as they lie in the file (`health.is_repairable`: only
    statistics are corrupt); `repaired` buffers were sanitized after loading (a watched model has then already been
    repaired by its watch). `missing` names what was to be restored and is not in the file."""

    state: dict[str, Any]
    step: int | None
    metric: float | None
    best_metric: float | None
    health: HealthReport
    repaired: int = 0
    extra: dict[str, Any] = field(default_factory=dict)
    run: str | None = None
    missing: tuple[str, ...] = ()

    @property
    def next_step(self) -> int:
        """The number of the step that follows; 0 where the file tells of none."""
        return 0 if self.step is None else self.step + 1


def save_checkpoint(path: PathLike, state: Mapping[str, Any], *, guard: bool = True) -> Path:
    """Write `state` atomically, as types that load weights-only.

    Where `guard` is on and a tensor in it is corrupt, raises CorruptModelError naming the first, after writing
    PATH.unhealthy and its report. Numbers are not judged: a metric, a loss or a history of them may be NaN. Raises
    CheckpointError where the state cannot be written, or holds what only running its code could load.
    """
    path = Path(path)
    storing = storable_state(state, path)
    if guard:
        refuse_corrupt(path, storing)
    write_state(path, storing)
    return path


def load_checkpoint(
    path: PathLike,
    model: nn.Module | Mapping[str, nn.Module] | None = None,
    optimizer: torch.optim.Optimizer | Several | None = None,
    scaler: torch.amp.GradScaler | None = None,
    scheduler: Any = None,
    *,
    ema: nn.Module | None = None,
    map_location: Any = "cpu",
    sanitize: bool = True,
    restore_rng: bool = True,
) -> LoadedCheckpoint:
    """Read a checkpoint with torch's weights-only loader into what is given, sanitize the model's statistics if they
    are corrupt (and `sanitize` is on), and report the health it was loaded with.

    Models, optimizers and schedulers may be dicts by name. The file may be one of ours, a plain state dict, or hold
    `state_dict` or `model_state_dict`; names may differ by the wrappers of DataParallel and torch.compile. Raises
    CheckpointError; models and optimizers are compared with the file before anything is loaded. A part that is not in
    the file is left as it is, with a warning.
    """
    path = Path(path)
    state = read(path, map_location)
    wanted = {"model": model, "ema": ema, "optimizer": optimizer, "scaler": scaler, "scheduler": scheduler}
    try:
        plan, missing = make_plan(state, {part: target for part, target in wanted.items() if target is not None})
        for part, _, target, found in plan:
            put(target, found, part)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    for part in missing:
        log.warning("%s: expected the state of the %s, the file holds none: it starts afresh", path, part)
    health = HealthReport(list(find_issues(state, plan)))
    repaired = repair_loaded(path, health, plan, sanitize) if plan else 0
    if restore_rng and "rng" in state:
        _restore_rng(path, state["rng"])
    step, run = _number(state.get("step")), state.get("run")
    return LoadedCheckpoint(
        state,
        None if step is None else int(step),
        _number(state.get("metric")),
        _number(state.get("best_metric")),
        health,
        repaired,
        _extra(state),
        run if isinstance(run, str) else None,
        missing,
    )


def _extra(state: Mapping[str, Any]) -> dict[str, Any]:
    """What the user saved beside the training's own state."""
    if find_part(state, "model") is state:
        return {}  # nothing in it but weights
    named_as_ours = state["extra"] if isinstance(state.get("extra"), dict) else {}
    return {key: value for key, value in state.items() if key not in RESERVED} | named_as_ours


def _number(value: Any) -> float | None:
    """A number in a file of any origin."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    return value if isinstance(value, int | float) else None


def _restore_rng(path: PathLike, state: Any) -> None:
    try:
        restore_rng_state(state)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        log.warning("%s: random states could not be restored (%s: %s)", path, type(error).__name__, error)
