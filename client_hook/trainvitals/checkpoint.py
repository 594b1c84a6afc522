"""Checkpoints that are whole or not there, and never silently corrupt.

A save goes to a temporary file in the same folder, is synced, and takes the old one's place in one rename: a process
killed at any byte leaves the previous checkpoint as it was. A state with corrupt tensors is refused under its own
name and kept beside it as PATH.unhealthy, with a report PATH.unhealthy.json. What is written holds only types that
torch's weights-only loader accepts, and nothing else is ever loaded.
"""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainvitals.errors import CheckpointError, CorruptModelError
from trainvitals.layers import Norm, named_norms
from trainvitals.repair.health import HealthReport, Issue
from trainvitals.repair.sanitize import Donor, bad_channels, describe, repair_statistics
from trainvitals.storage.atomic import write_atomically
from trainvitals.storage.contents import storable
from trainvitals.storage.judging import state_issues, tensor_issues
from trainvitals.storage.quarantine import parameter_of, write_quarantine
from trainvitals.storage.randomness import restore_rng_state
from trainvitals.storage.restoring import check_optimizer, find_part, fit_model, pairs, put, read

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


def refuse_corrupt(
    path: Path,
    state: Mapping[str, Any],
    judged: Mapping[str, Any] | None = None,
    parameters: Mapping[str, str] | None = None,
    repaired: Sequence[str] = (),
) -> None:
    """Raises CorruptModelError, after `state` has been put into quarantine, where a tensor of it (or of the part
    `judged`) is corrupt. For `parameters` and `repaired` see `write_quarantine`."""
    issues = list(state_issues(state if judged is None else judged))
    if not issues:
        return
    names = {**_parameter_names(state), **(parameters or {})}
    first, parameter = issues[0], parameter_of(issues[0].key, names)
    reason = f"{first.count} of {first.total} {first.kind}" + (f", parameter {parameter}" if parameter else "")
    kept = None
    try:
        kept = write_quarantine(path, state, issues, names, repaired)
    except (OSError, RuntimeError, ValueError) as error:
        reason += f"; it could not be kept either: {_cause(error)}"
    raise CorruptModelError(first.key, reason, kept)


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state of storable types atomically. Raises CheckpointError."""
    try:
        write_atomically(path, lambda file: torch.save(state, file))
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be written: {_cause(error)}") from error


def storable_state(state: Mapping[str, Any], path: Path, *, strict: bool = True) -> dict[str, Any]:
    """A state in weights-only types. Raises CheckpointError naming the file and the place."""
    try:
        return dict(storable(state, strict=strict))
    except (CheckpointError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


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
    state = read(Path(path), map_location)
    wanted = {"model": model, "ema": ema, "optimizer": optimizer, "scaler": scaler, "scheduler": scheduler}
    try:
        plan, missing = _plan(state, {part: target for part, target in wanted.items() if target is not None})
        for part, _, target, found in plan:
            put(target, found, part)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    for part in missing:
        log.warning("%s: expected the state of the %s, the file holds none: it starts afresh", path, part)
    health = HealthReport(list(_issues(state, plan)))
    models = [(key, target) for part, key, target, _ in plan if part == "model"]
    averages = [(key, target) for part, key, target, _ in plan if part == "ema"]
    repaired = _examine(path, health, dict(models), dict(averages), sanitize) if models or averages else 0
    if restore_rng and "rng" in state:
        _restore_rng(path, state["rng"])
    own = state["extra"] if isinstance(state.get("extra"), dict) else {}
    plain = find_part(state, "model") is state  # nothing in it but the weights
    extra = {} if plain else {key: value for key, value in state.items() if key not in RESERVED} | own
    step = state.get("step")
    return LoadedCheckpoint(
        state,
        int(step) if isinstance(step, int | float) else None,
        state.get("metric"),
        state.get("best_metric"),
        health,
        repaired,
        extra,
        state.get("run") if isinstance(state.get("run"), str) else None,
        missing,
    )


# --- saving ------------------------------------------------------------------------------------------------------


def _parameter_names(state: Mapping[str, Any]) -> dict[str, str]:
    """`optimizer.state.3` -> the parameter's name, where the optimizer was made from named parameters."""
    optimizer = state.get("optimizer")
    groups = optimizer.get("param_groups", ()) if isinstance(optimizer, Mapping) else ()
    return {
        f"optimizer.state.{index}": str(name)
        for group in groups
        for index, name in zip(group["params"], group.get("param_names") or (), strict=False)
    }


def _cause(error: BaseException) -> str:
    """torch's writer hides the disk's own error behind one of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return str(cause)
        cause = cause.__context__
    return str(error)


# --- loading -----------------------------------------------------------------------------------------------------

Plan = list[tuple[str, str, Any, Any]]  # part, key within it, the object, the state it is to load


def _plan(state: Mapping[str, Any], targets: Mapping[str, Any]) -> tuple[Plan, tuple[str, ...]]:
    """What goes where, compared; and the parts that the file lacks."""
    plan: Plan = []
    missing = []
    for part, target in targets.items():
        found = find_part(state, part)
        if found is None and part == "model":
            raise CheckpointError(f"expected the state of a model, got a file holding {', '.join(map(str, state))}")
        if found is None:
            missing.append(part)
            continue
        for key, one, its in pairs(part, target, found):
            place = f"{part}.{key}".removesuffix(".")
            if isinstance(one, nn.Module):
                its = fit_model(one, its, place)  # noqa: PLW2901 - the same state under the model's names
            elif part == "optimizer":
                check_optimizer(one, its, place)
            plan.append((part, key, one, its))
    return plan, tuple(missing)


def _issues(state: Mapping[str, Any], plan: Plan) -> Iterator[Issue]:
    """Of models, averages and optimizers, as the file has them: those that were loaded, under the model's names."""
    loaded = {part for part, _, _, _ in plan}
    for part, key, _, its in plan:
        if part in ("model", "ema", "optimizer"):
            prefix = ".".join(name for name in ("" if part == "model" else part, key) if name)
            yield from tensor_issues(its, prefix, in_optimizer=part == "optimizer")
    for part in ("model", "ema", "optimizer"):
        if part not in loaded:
            yield from tensor_issues(
                find_part(state, part), "" if part == "model" else part, in_optimizer=part == "optimizer"
            )


def _examine(
    path: PathLike, health: HealthReport, models: Mapping[str, nn.Module], averages: Mapping[str, nn.Module], act: bool
) -> int:
    """The seed's fix 3: say what is corrupt, repair the statistics; returns the number of buffers repaired."""
    log.info("Performing post-load model health check...")
    lost = [issue for issue in health.issues if issue.group != "statistics"]
    if lost:
        log.error(
            "%s: %d tensors of weights or optimizer state are corrupt, the first %s; no repair brings them back, go "
            "back to an earlier checkpoint",
            path,
            len(lost),
            lost[0],
        )
    corrupt = len(health.issues) - len(lost)
    if corrupt:
        log.warning("[WARN] Found %d corrupted stats after loading!", corrupt)
    if not corrupt or not act:
        return 0
    live = list(named_norms(models))
    repairs = repair_statistics(live, "reset")
    repairs += repair_statistics(list(named_norms(averages)), "restore", lambda norm, bad: _donor(live, norm, bad))
    buffers = sum(len(repair.buffers) for repair in repairs)
    for line in describe(repairs):
        log.warning("%s", line)
    if buffers:
        log.warning("Sanitized %d BatchNorm statistics.", buffers)
    return buffers


def _donor(live: Sequence[Norm], average: Norm, bad: torch.Tensor) -> Donor | None:
    """An averaged copy is healed from the model's layer of the same name."""
    for norm in live:
        if norm.name == average.name.removeprefix("module.") and norm.mean.shape == bad.shape:
            return Donor(norm.mean.to(average.mean), norm.var.to(average.var), ~bad_channels(norm))
    return None


def _restore_rng(path: PathLike, state: Any) -> None:
    try:
        restore_rng_state(state)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        log.warning("%s: random states could not be restored (%s: %s)", path, type(error).__name__, error)
