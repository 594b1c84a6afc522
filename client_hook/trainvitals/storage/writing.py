"""Writing a state: made storable, judged, and then whole or not there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainvitals.errors import CheckpointError, CorruptModelError
from trainvitals.storage.atomic import write_atomically
from trainvitals.storage.contents import storable
from trainvitals.storage.judging import state_issues
from trainvitals.storage.quarantine import parameter_of, write_quarantine


def storable_state(state: Mapping[str, Any], path: Path, *, strict: bool = True) -> dict[str, Any]:
    """A state in weights-only types. Raises CheckpointError naming the file and the place."""
    try:
        return dict(storable(state, strict=strict))
    except (CheckpointError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


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
