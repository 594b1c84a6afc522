"""Checkpoints that are whole or not there, and never silently corrupt.

A save goes to a temporary file in the same folder, is synced, and takes the old one's place in one rename: a process
killed at any byte leaves the previous checkpoint as it was. A state with non-finite values is refused under its own
name and kept beside it as PATH.unhealthy, with a report PATH.unhealthy.json. What is written holds only types that
torch's weights-only loader accepts.
"""

import contextlib
import json
import os
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from trainvitals.errors import CheckpointError, CorruptModelError
from trainvitals.layers import unwrap
from trainvitals.repair.health import Group, HealthReport, Issue, find_issue
from trainvitals.repair.sanitize import sanitize_model_bn_stats

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class CheckpointResult:
    """What became of a save; false when nothing was written under the name asked for."""

    outcome: str  # saved, refused, failed
    path: Path
    best: bool = False
    key: str | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.outcome == "saved"


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What was in a checkpoint. `health` is that of the statistics as they lie in the file; `repaired` buffers were
    sanitized after loading (a watched model has then already been repaired by its watch)."""

    state: dict[str, Any]
    step: int | None
    metric: float | None
    best_metric: float | None
    health: HealthReport
    repaired: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: PathLike, state: Mapping[str, Any], *, guard: bool = True) -> Path:
    """Write `state` atomically. Raises CorruptModelError naming the first corrupt key, after writing PATH.unhealthy,
    where `guard` is on and the state holds non-finite values; CheckpointError where it cannot be written."""
    path = Path(path)
    issues = list(state_issues(state)) if guard else []
    if issues:
        unhealthy = path.with_name(path.name + ".unhealthy")
        write_state(unhealthy, state)
        report = [{"key": i.key, "kind": i.kind, "count": i.count, "total": i.total, "group": i.group} for i in issues]
        unhealthy.with_name(unhealthy.name + ".json").write_text(json.dumps({"issues": report}, indent=1))
        raise CorruptModelError(issues[0].key, f"{issues[0].count} of {issues[0].total} {issues[0].kind}")
    write_state(path, state)
    return path


def load_checkpoint(
    path: PathLike,
    model: nn.Module | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    scaler: torch.amp.GradScaler | None = None,
    scheduler: Any = None,
    *,
    map_location: Any = "cpu",
    sanitize: bool = True,
    restore_rng: bool = True,
) -> LoadedCheckpoint:
    """Read a checkpoint with torch's weights-only loader into what is given, sanitize the model's statistics if they
    are corrupt (and `sanitize` is on), and report the health it was loaded with. Raises CheckpointError."""
    try:
        loaded = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(f"{path}: expected a checkpoint that loads weights-only, got: {first}") from error
    if not isinstance(loaded, dict):
        raise CheckpointError(f"{path}: expected a checkpoint holding a dict, got {type(loaded).__name__}")
    state = cast("dict[str, Any]", loaded)
    health, repaired = HealthReport(), 0
    if model is not None:
        loaded_model = state.get("model", state)
        health = HealthReport([issue for issue in state_issues(loaded_model) if issue.group == "statistics"])
        unwrap(model).load_state_dict(loaded_model)
        repaired = sanitize_model_bn_stats(model, verbose=True) if sanitize and not health.is_healthy else 0
    for key, target in (("optimizer", optimizer), ("scaler", scaler), ("scheduler", scheduler)):
        if target is not None and state.get(key) is not None:
            target.load_state_dict(state[key])
    if restore_rng and "rng" in state:
        restore_rng_state(state["rng"])
    known = {"model", "optimizer", "scaler", "scheduler", "rng", "step", "metric", "best_metric"}
    extra = {key: value for key, value in state.items() if key not in known}
    return LoadedCheckpoint(
        state, state.get("step"), state.get("metric"), state.get("best_metric"), health, repaired, extra
    )


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Temporary file, sync, rename, sync of the folder. Raises CheckpointError and leaves no temporary file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, RuntimeError, AttributeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def storable(value: Any) -> Any:
    """The user's own values as types that the weights-only loader accepts: numbers of numpy as Python's, arrays as
    tensors, paths and what else there is as text."""
    if value is None or isinstance(value, bool | torch.Tensor) or type(value) in (int, float, str, bytes):
        return value
    if isinstance(value, Mapping):
        return {key if type(key) in (int, str) else str(key): storable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [storable(inner) for inner in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return torch.from_numpy(value.copy())
    return value.item() if isinstance(value, np.generic) else str(value)


def state_issues(state: Any, prefix: str = "") -> Iterator[Issue]:
    """Every tensor of a nested state that holds non-finite values, or a negative running variance, in state order.
    Keys of the model's part are named as the model names them."""
    if isinstance(state, torch.Tensor):
        key = prefix.removeprefix("model.")
        yield from find_issue(key, state, _group(prefix))
    elif isinstance(state, Mapping):
        for key, value in state.items():
            yield from state_issues(value, f"{prefix}.{key}".removeprefix("."))
    elif isinstance(state, list | tuple):
        for i, value in enumerate(state):
            yield from state_issues(value, f"{prefix}.{i}".removeprefix("."))


def rng_state() -> dict[str, Any]:
    """The state of every random generator in use, in weights-only types."""
    name, keys, position, has_gauss, gauss = cast("tuple[str, Any, int, int, float]", np.random.get_state())
    version, numbers, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(numbers), gauss_next],
        "numpy": [name, torch.from_numpy(keys.astype("int64")), position, has_gauss, gauss],
    }


def restore_rng_state(state: Mapping[str, Any]) -> None:
    """Put back what `rng_state` took."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    version, numbers, gauss_next = state["python"]
    random.setstate((version, tuple(numbers), gauss_next))
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype("uint32"), position, has_gauss, gauss))


def _group(prefix: str) -> Group:
    if prefix.endswith(("running_mean", "running_var")):
        return "statistics"
    return "optimizer" if prefix.startswith("optimizer") else "weights"
