"""What `watch.save_checkpoint` saves, and what it records about it."""

import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from trainvitals import wire
from trainvitals.checkpoint import CheckpointResult, rng_state, save_checkpoint, storable
from trainvitals.errors import CheckpointError, CorruptModelError
from trainvitals.layers import unwrap
from trainvitals.repair.keeper import Keeper
from trainvitals.training import Training

log = logging.getLogger("trainvitals")
SETTLING = 10  # steps after a repair in which no checkpoint is called the best


class Saver:
    """Saves the watched training state under the guard."""

    def __init__(
        self,
        training: Training,
        keeper: Keeper,
        emit: Callable[[wire.Record], None],
    ) -> None:
        self.last_path: Path | None = None
        self.best: float | None = None
        self._training = training
        self._keeper = keeper
        self._emit = emit

    def save(
        self, path: Path, step: int, extra: dict[str, Any], metric: float | None, repair: bool
    ) -> CheckpointResult:
        """Repair statistics where that is on, then save; the result says what happened, and so does the run."""
        metric = float(metric) if metric is not None else None  # a numpy number would not load weights-only
        repaired = bool(self._keeper.sweep("save", step)) if repair else False
        is_best = self._is_best(step, metric)
        state = {**self._state(step, metric, metric if is_best else self.best), **storable(extra)}
        try:
            save_checkpoint(path, state)
        except CorruptModelError as error:
            log.error("[FATAL] %s", error)
            result = CheckpointResult("refused", path, key=error.key, reason=error.reason)
        except CheckpointError as error:
            log.error("checkpoint not saved: %s", error)
            result = CheckpointResult("failed", path, reason=str(error))
        else:
            result = CheckpointResult("saved", path, best=is_best)
            self.last_path = path
            if is_best:
                self.best = metric
                self._keep_best(path)
        self._record(result, step, metric, repaired)
        return result

    def _is_best(self, step: int, metric: float | None) -> bool:
        settled = self._keeper.last_repair is None or step - self._keeper.last_repair >= SETTLING
        return settled and metric is not None and math.isfinite(metric) and (self.best is None or metric > self.best)

    def _keep_best(self, path: Path) -> None:
        """A copy under STEM_best, atomically: the newest save may be replaced, the best one stays."""
        best = path.with_name(f"{path.stem}_best{path.suffix}")
        temporary = best.with_name(f".{best.name}.tmp")
        shutil.copyfile(path, temporary)
        temporary.replace(best)

    def _state(self, step: int, metric: float | None, best: float | None) -> dict[str, Any]:
        now = self._training
        return {
            "model": _states(now.models),
            "optimizer": _states(now.optimizers),
            "scaler": now.scaler.state_dict() if now.scaler is not None else None,
            "scheduler": now.scheduler.state_dict() if now.scheduler is not None else None,
            **({"ema": unwrap(now.ema).state_dict()} if now.ema is not None else {}),
            "rng": rng_state(),
            "step": step,
            "metric": metric,
            "best_metric": best,
        }

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


def _states(named: Mapping[str, Any]) -> Any:
    """One state dict where there is one model or optimizer, else one per key."""
    states = {
        key: (unwrap(value) if isinstance(value, nn.Module) else value).state_dict() for key, value in named.items()
    }
    return states[""] if set(states) == {""} else states or None
