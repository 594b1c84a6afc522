"""Where a refused state goes: PATH.unhealthy, with a report PATH.unhealthy.json that says what is wrong with it.

The checkpoint at PATH is not touched. A later refusal replaces an earlier one, so that a run that is refused for hours
does not fill the disk.
"""

import json
import math
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from trainvitals import __version__
from trainvitals.repair.health import Issue
from trainvitals.storage.atomic import write_atomically


def quarantine_path(path: Path) -> Path:
    """PATH.unhealthy."""
    return path.with_name(path.name + ".unhealthy")


def write_quarantine(
    path: Path,
    state: Mapping[str, Any],
    issues: Sequence[Issue],
    parameters: Mapping[str, str],
    repaired: Sequence[str],
) -> Path:
    """Keep `state`, which was refused at `path`, and its report, both atomically. Raises OSError, and RuntimeError of
    torch. `parameters` names the parameter of an optimizer state's key, `repaired` the layers made good before."""
    kept = quarantine_path(path)
    report = {
        "refused": str(path),
        "kept": str(kept),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "step": plain_number(state.get("step")),
        "metric": plain_number(state.get("metric")),
        "versions": {
            "trainvitals": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "repaired": list(repaired),
        "issues": [_describe(issue, parameters) for issue in issues],
    }
    text = json.dumps(report, indent=1, allow_nan=False)
    write_atomically(kept, lambda file: torch.save(state, file))
    write_atomically(kept.with_name(kept.name + ".json"), lambda file: file.write(text.encode()))
    return kept


def plain_number(value: Any) -> int | float | str | None:
    """A number as strict JSON has it: what is not finite as text, what is no number as None."""
    if isinstance(value, torch.Tensor):
        value = value.item() if value.numel() == 1 else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def parameter_of(key: str, parameters: Mapping[str, str]) -> str | None:
    """The parameter that the optimizer's `key` belongs to: `optimizer.state.3.exp_avg` to that of
    `optimizer.state.3`."""
    return parameters.get(key.rpartition(".")[0])


def _describe(issue: Issue, parameters: Mapping[str, str]) -> dict[str, Any]:
    parameter = parameter_of(issue.key, parameters)
    return {
        "key": issue.key,
        "kind": issue.kind,
        "count": issue.count,
        "total": issue.total,
        "first": list(issue.first),
        "group": issue.group,
        **({"parameter": parameter} if parameter else {}),
    }
