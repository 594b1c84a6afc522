"""What `watch.save_checkpoint` saves, and what it records about it.

With automatic repair on, corrupt statistics never cost a checkpoint: the watched layers are repaired, and what is left
(layers that are not watched, an average without a good counterpart) is made good in the file alone. Only corrupt
weights and optimizer state are refused; with repair off or halted, corrupt statistics are too.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from trainvitals import wire
from trainvitals.checkpoint import RESERVED, CheckpointResult
from trainvitals.errors import CheckpointError, CorruptModelError
from trainvitals.layers import clean_name, unwrap
from trainvitals.repair.keeper import Keeper
from trainvitals.storage.judging import heal_statistics, tensor_issues
from trainvitals.storage.randomness import rng_state
from trainvitals.storage.writing import refuse_corrupt, storable_state, write_state
from trainvitals.training import Training

log = logging.getLogger("trainvitals")
SETTLING = 10  # steps after a repair in which no checkpoint is called the best
LINES = 12  # layers named in one warning


class Saver:
    """Saves the watched training state of run `run` under the guard."""

    def __init__(self, run: str, training: Training, keeper: Keeper, emit: Callable[[wire.Record], None]) -> None:
        self.last_path: Path | None = None
        self.best: float | None = None
        self._run = run
        self._training = training
        self._keeper = keeper
        self._emit = emit

    def save(self, path: Path, step: int, extra: Mapping[str, Any], metric: Any, repair: bool) -> CheckpointResult:
        """Repair statistics where that is on, then save; the result says what happened, and so does the run."""
        metric = _number(metric)
        acts = repair and self._keeper.acts  # before the pass, which may be the last one allowed
        repaired = [r.layer for r in self._keeper.sweep("save", step)] if repair else []
        is_best = self._is_best(step, metric)
        try:
            own = self._state(path, step, metric, metric if is_best else self.best)
            repaired += _heal(path, own) if acts else []
            state = own | _extra(path, extra)
            refuse_corrupt(path, state, own, self._parameter_names(), repaired)
            is_best, reason = self._keep_best(path, state, metric) if is_best else (False, "")
            write_state(path, state)
            result = CheckpointResult("saved", path, best=is_best, reason=reason)
        except CorruptModelError as error:
            log.error("[FATAL] %s", error)
            result = CheckpointResult("refused", path, key=error.key, reason=self._why(error), unhealthy=error.kept)
        except CheckpointError as error:
            log.error("checkpoint not saved: %s", error)
            result = CheckpointResult("failed", path, reason=str(error))
        if result:
            self.last_path = path
        self._record(result, step, metric, bool(repaired))
        return result

    def _is_best(self, step: int, metric: float | None) -> bool:
        last = self._keeper.last_repair
        settled = last is None or not 0 <= step - last < SETTLING  # below 0: the steps went back since
        return settled and metric is not None and math.isfinite(metric) and (self.best is None or metric > self.best)

    def _keep_best(self, path: Path, state: dict[str, Any], metric: float | None) -> tuple[bool, str]:
        """The same under STEM_best: the newest may be replaced, the best one stays. It is written before the newest,
        so that no file tells of a best metric that was not kept. Returns whether it was, and if not why."""
        best = path.with_name(f"{path.stem}_best{path.suffix}")
        try:
            write_state(best, state)
        except CheckpointError as error:
            log.error("best checkpoint not kept: %s", error)
            state["best_metric"] = self.best
            return False, str(error)
        self.best = metric
        return True, ""

    def _state(self, path: Path, step: int, metric: float | None, best: float | None) -> dict[str, Any]:
        now = self._training
        needed = {"model": _states(now.models), "optimizer": _states(now.optimizers)}
        if now.ema is not None:
            needed["ema"] = unwrap(now.ema).state_dict()
        return {
            **storable_state(needed, path),
            "scaler": _if_storable(path, "scaler", now.scaler),
            "scheduler": _if_storable(path, "scheduler", now.scheduler),
            "rng": rng_state(),
            "run": self._run,
            "step": step,
            "metric": metric,
            "best_metric": best,
        }

    def _parameter_names(self) -> dict[str, str]:
        """`optimizer.state.3` -> the name of the parameter that this state belongs to."""
        models = self._training.models
        names = {id(p): clean_name(key, name) for key, m in models.items() for name, p in m.named_parameters()}
        found: dict[str, str] = {}
        for key, optimizer in self._training.optimizers.items():
            place = f"optimizer.{key}.state" if key else "optimizer.state"
            held = (parameter for group in optimizer.param_groups for parameter in group["params"])
            found |= {f"{place}.{i}": names[id(p)] for i, p in enumerate(held) if id(p) in names}
        return found

    def _why(self, error: CorruptModelError) -> str:
        halted = self._keeper.halted and error.key.endswith(("running_mean", "running_var"))
        return f"{error.reason}; automatic repair is halted" if halted else error.reason

    def _record(self, result: CheckpointResult, step: int, metric: float | None, repaired: bool) -> None:
        self._emit(
            wire.Checkpoint(
                step=step,
                time=time.time(),
                outcome=result.outcome,  # type: ignore[arg-type]  # one of the three by construction
                path=str(result.path),
                best=result.best,
                metric=metric,
                key=result.key,
                reason=result.reason,
                repaired=repaired,
            )
        )


def _number(metric: Any) -> float | None:
    """A metric, whatever gave it (a number, a tensor or numpy's); one that is no number costs no checkpoint."""
    try:
        return None if metric is None else float(metric)
    except (TypeError, ValueError, RuntimeError) as error:
        log.warning("metric: expected a number, got %.80r (%s); saved without it", metric, error)
        return None


def _states(named: Any) -> Any:
    """One state dict where there is one model or optimizer, else one per key."""
    if isinstance(named, list | tuple):
        return [one.state_dict() for one in named]
    if not isinstance(named, Mapping):
        return named.state_dict()
    states = {
        key: (unwrap(value) if isinstance(value, nn.Module) else value).state_dict() for key, value in named.items()
    }
    return states[""] if set(states) == {""} else states or None


def _if_storable(path: Path, part: str, target: Any) -> Any:
    """The state of what a run can go on without; better a checkpoint without it than none."""
    if target is None:
        return None
    try:
        return storable_state({part: _states(target)}, path)[part]
    except CheckpointError as error:
        log.warning("the %s is left out: %s", part, error)
        return None


def _extra(path: Path, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The user's own values beside ours; under a name of ours they go into `extra`. They are not judged, but what is
    corrupt among them is said."""
    stored = storable_state(extra, path, strict=False)
    for issue in tensor_issues(stored, "extra"):
        log.warning("%s: saved as it was given, though %s", path, issue)
    ours = {name: stored.pop(name) for name in RESERVED if name in stored}
    return stored | ({"extra": ours} if ours else {})


def _heal(path: Path, state: dict[str, Any]) -> list[str]:
    """Make good, in the file alone, the statistics that the pass over the watched layers has left corrupt; returns
    the layers."""
    model, healed = heal_statistics(state["model"])
    state["model"] = model
    if "ema" in state:
        state["ema"], averaged = heal_statistics(state["ema"], model)
        healed += [f"ema.{layer}" for layer in averaged]
    if healed:
        more = f" and {len(healed) - LINES} more" if len(healed) > LINES else ""
        log.warning(
            "[SANITIZE] corrupted statistics of layers that are not watched are reset in %s alone: %s%s",
            path,
            ", ".join(healed[:LINES]),
            more,
        )
    return healed
