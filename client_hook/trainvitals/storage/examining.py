"""The seed's fix 3: the health check of what was just loaded."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainvitals.layers import Norm, named_norms
from trainvitals.repair.health import HealthReport, Issue
from trainvitals.repair.sanitize import Donor, bad_channels, describe, repair_statistics, sanitize_model_bn_stats
from trainvitals.storage.judging import tensor_issues
from trainvitals.storage.restoring import Plan, find_part

log = logging.getLogger("trainvitals")
JUDGED = ("model", "ema", "optimizer")


def find_issues(state: Mapping[str, Any], plan: Plan) -> Iterator[Issue]:
    """Corrupt tensors of models, averages and optimizers as the file has them; those that were loaded, under the
    model's names."""
    loaded = {part for part, _, _, _ in plan}
    found = [(part, key, its) for part, key, _, its in plan if part in JUDGED]
    found += [(part, "", find_part(state, part)) for part in JUDGED if part not in loaded]
    for part, key, its in found:
        place = ".".join(name for name in ("" if part == "model" else part, key) if name)
        yield from tensor_issues(its, place, in_optimizer=part == "optimizer")


def repair_loaded(path: Path, health: HealthReport, plan: Plan, sanitize: bool) -> int:
    """Say what is corrupt and, where `sanitize` is on, repair the statistics; returns the number of buffers."""
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
    return _sanitize(_targets(plan, "model"), _targets(plan, "ema")) if corrupt and sanitize else 0


def _sanitize(models: Mapping[str, nn.Module], averages: Mapping[str, nn.Module]) -> int:
    live = list(named_norms(models))
    repairs = repair_statistics(live, "reset")
    repairs += repair_statistics(list(named_norms(averages)), "restore", lambda norm, bad: _donor(live, norm, bad))
    buffers = sum(len(repair.buffers) for repair in repairs)
    for network in (*models.values(), *averages.values()):
        buffers += sanitize_model_bn_stats(network, verbose=False)  # what is left: statistics that are not in pairs
    for line in describe(repairs):
        log.warning("%s", line)
    if buffers:
        log.warning("Sanitized %d BatchNorm statistics.", buffers)
    return buffers


def _targets(plan: Plan, part: str) -> dict[str, nn.Module]:
    return {key: target for one, key, target, _ in plan if one == part}


def _donor(live: Sequence[Norm], average: Norm, bad: torch.Tensor) -> Donor | None:
    """An averaged copy is healed from the model's layer of the same name."""
    for norm in live:
        if norm.name == average.name.removeprefix("module.") and norm.mean.shape == bad.shape:
            return Donor(norm.mean.to(average.mean), norm.var.to(average.var), ~bad_channels(norm))
    return None
