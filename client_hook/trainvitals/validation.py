"""Counting what a validation really evaluated.

A batch is valid when its body raised nothing and what it gave as loss or output, if anything, is finite. Finite losses
alone do not prove a validation valid (with running_var = inf an eval output is silently zero), so one run on corrupt
statistics is tainted whatever its losses. Batches that were not run, because the loop ended early, count for nothing.
"""

import logging
import math
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Literal

import torch

from trainvitals import wire
from trainvitals.nesting import floating_tensors, tensors

log = logging.getLogger("trainvitals")
MESSAGES = 3  # errors logged one by one


class Batch(AbstractContextManager["Batch"]):
    """One validation batch; set `loss`, `output` or both. A loss in several parts counts as their sum."""

    def __init__(self, validation: "Validation", index: int) -> None:
        self.loss: Any = None
        self.output: Any = None
        self._validation = validation
        self._index = index

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if error is None:
            self._validation._judge(self._index, self.loss, self.output)
            return False
        if not isinstance(error, Exception) or isinstance(error, torch.AcceleratorError):
            return False  # a lost device, Ctrl-C: not a failed batch
        self._validation._fail(self._index, error)
        return True


class Validation(AbstractContextManager["Validation"]):
    """One validation. The counts may be read at any time; they wait for the device. `tainted`: the network evaluated
    had corrupt statistics before or after it. Entered again, it counts from the start."""

    def __init__(
        self,
        step: int,
        total: Any,
        begin: Callable[["Validation"], None],
        finish: Callable[["Validation"], None],
        model: str = "",
    ) -> None:
        self.step = step
        self.total = _whole(total)
        self.model = model
        self._begin = begin
        self._finish = finish
        self._reset()

    def _reset(self) -> None:
        self.tainted = False
        self.errors = 0
        self._valid = 0
        self._nonfinite = 0
        self._loss_sum = 0.0
        self._losses = 0
        self._pending: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []  # per batch: finite?, parts of the loss
        self._metrics: dict[str, float] = {}
        self._first_traceback = ""
        self._index = 0
        self._started = time.monotonic()

    def __enter__(self) -> "Validation":
        self._reset()
        self._begin(self)
        return self

    def batch(self) -> Batch:
        """The next batch: `with val.batch() as b: b.loss = ...`."""
        self._index += 1
        return Batch(self, self._index - 1)

    def metrics(self, **values: Any) -> None:
        """Numbers that describe this validation, such as psnr=, ssim=; tensors of one element too."""
        for name, value in values.items():
            try:
                self._metrics[name] = float(value)
            except (TypeError, ValueError, RuntimeError) as error:
                log.warning("validation metric %s: expected a number, got %.80r (%s)", name, value, error)

    @property
    def begun(self) -> int:
        """Batches begun; does not wait for the device."""
        return self._index

    @property
    def valid(self) -> int:
        """Batches that raised nothing and gave finite values."""
        self._resolve()
        return self._valid

    @property
    def nonfinite(self) -> int:
        """Batches whose loss or output was not finite."""
        self._resolve()
        return self._nonfinite

    @property
    def failed(self) -> int:
        """Errors plus non-finite ones."""
        return self.errors + self.nonfinite

    @property
    def mean_loss(self) -> float | None:
        """Mean over the valid batches that gave a loss; None where there is none."""
        self._resolve()
        return self._loss_sum / self._losses if self._losses else None

    def event(self) -> wire.Validation:
        """The validation as a record."""
        return wire.Validation(
            step=self.step,
            time=time.time(),
            valid=self.valid,
            errors=self.errors,
            nonfinite=self.nonfinite,
            total=self.total,
            tainted=self.tainted,
            mean_loss=self.mean_loss,
            metrics=self._metrics,
            duration=time.monotonic() - self._started,
            model=self.model,
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        self._finish(self)
        if error is None:
            self._say()
        return False

    def _say(self) -> None:
        if self.valid == 0:
            log.warning("[WARN] Validation produced 0 valid batches! (%d failed)", self.failed)
            if self.errors and not self.nonfinite:
                log.error("every batch raised; the first:\n%s", self._first_traceback)
        elif self.failed:
            log.info("[INFO] %d validation batches failed, %d succeeded", self.failed, self.valid)
        if self.tainted:
            log.warning("[WARN] Validation at iter %d ran on non-finite running statistics: tainted", self.step)

    def _judge(self, index: int, loss: Any, output: Any) -> None:
        """Keep the verdict on the device; asking it now would wait."""
        try:
            finite = [_is_finite(tensor.detach()) for value in (loss, output) for tensor in floating_tensors(value)]
            parts = [_mean(tensor.detach()) for tensor in tensors(loss) if tensor.numel()]
        except torch.AcceleratorError:
            raise
        except Exception as error:  # a type that nobody foresaw must not end the training, nor pass for valid
            self._fail(index, error)
        else:
            self._pending.append((finite, parts))

    def _fail(self, index: int, error: Exception) -> None:
        self.errors += 1
        if not self._first_traceback:
            self._first_traceback = "".join(traceback.format_exception(error))
        if self.errors <= MESSAGES:
            log.warning("[VAL ERROR] Batch %d failed: %s", index, error)
        elif self.errors == MESSAGES + 1:
            log.warning("[VAL ERROR] further failed batches of this validation are counted without a line each")

    def _resolve(self) -> None:
        pending, self._pending = self._pending, []
        for finite, parts in pending:
            loss = math.fsum(float(part) for part in parts) if all(map(bool, finite)) else math.nan
            if not math.isfinite(loss):
                self._nonfinite += 1
                continue
            self._valid += 1
            if parts:
                self._loss_sum += loss
                self._losses += 1


def _is_finite(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.layout != torch.strided:
        tensor = tensor.coalesce().values() if tensor.is_sparse else tensor.values()
    return torch.isfinite(tensor.float() if tensor.element_size() == 1 else tensor).all()  # float8 knows no isfinite


def _mean(tensor: torch.Tensor) -> torch.Tensor:
    """At least in float32: a mean of float16 overflows where no element did."""
    if tensor.is_complex():
        tensor = tensor.abs()
    return (tensor if tensor.dtype == torch.float64 else tensor.float()).mean()


def _whole(total: Any) -> int | None:
    """The number of batches expected, where it is known."""
    try:
        return None if total is None else int(total)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        log.warning("validation total: expected a number of batches, got %.80r (%s)", total, error)
        return None
