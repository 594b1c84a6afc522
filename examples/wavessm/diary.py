"""What the trainer itself saw, hook or no hook: every loss, every validation, every checkpoint, and how it says so."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ValidationPoint:
    """One validation; loss, PSNR (dB) and SSIM are means over the valid batches, None where there was none."""

    step: int
    valid: int
    failed: int
    total: int
    loss: float | None
    psnr: float | None
    ssim: float | None

    def line(self) -> str:
        """As the user's script prints it."""
        numbers = (("Val Loss", self.loss, ".4f"), ("PSNR", self.psnr, ".2f"), ("SSIM", self.ssim, ".4f"))
        known = [f"{name}: {value:{shape}}" for name, value, shape in numbers if value is not None]
        return f"[Iter {self.step}] {' | '.join(known)}"


@dataclass(frozen=True)
class CheckpointPoint:
    """One attempt to save; `key` names the tensor because of which it was refused."""

    step: int
    saved: bool
    best: bool = False
    key: str | None = None


@dataclass
class Diary:
    """Kept in memory and written once at the end. Losses stay tensors until then: no step waits for its loss."""

    start: int = 0  # the iteration before the first
    losses: list[Tensor] = field(default_factory=list)
    norms: list[Tensor] = field(default_factory=list)  # of all gradients together, before clipping
    validations: list[ValidationPoint] = field(default_factory=list)
    checkpoints: list[CheckpointPoint] = field(default_factory=list)

    def psnr_at(self, step: int) -> float | None:
        """PSNR of the validation at `step`, if there was one with a valid batch."""
        newest = self.validations[-1] if self.validations else None
        return newest.psnr if newest and newest.step == step else None

    def note(self, loss: Tensor, norm: Tensor) -> None:
        """An iteration's loss and gradient norm."""
        self.losses.append(loss)
        self.norms.append(norm)

    def train_loss(self) -> list[float]:
        """The loss of every iteration from `start + 1` on."""
        return _numbers(self.losses)

    def nan_grad_steps(self) -> list[int]:
        """The iterations whose gradient was not finite: the scaler skipped them."""
        return [step for step, norm in enumerate(_numbers(self.norms), self.start + 1) if not math.isfinite(norm)]

    def write(self, path: Path, **more: Any) -> None:
        """One JSON object; non-finite numbers are the strings "NaN", "Infinity" and "-Infinity"."""
        content = {
            **more,
            "start": self.start,
            "train_loss": [_spell(loss) for loss in self.train_loss()],
            "nan_grad_steps": self.nan_grad_steps(),
            "validations": [asdict(point) for point in self.validations],
            "checkpoints": [asdict(point) for point in self.checkpoints],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, allow_nan=False) + "\n")


def _numbers(scalars: list[Tensor]) -> list[float]:
    stacked: list[float] = torch.stack(scalars).float().tolist() if scalars else []
    return stacked


def _spell(number: float) -> float | str:
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
