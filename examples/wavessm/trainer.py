"""The training loop: float16 autocast, GradScaler, clipping, validation, checkpoints, and a few calls of trainvitals.

Five layers of defence stand in it: stable BatchNorm settings from the start (`configure_bn_for_stability`), detection
every step and a health check every 100 (`watch`), recovery at the next safe point (`auto_sanitize`), a check before
each validation (`watch.validation`), and tight gradient clipping.

Iterations count from 1. Everything random is a function of the seed and the iteration, so a run can be repeated and
resumed.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import l1_loss

import trainvitals

from .arguments import parse_arguments
from .data import TrainingBatches, ValidationBatches
from .diary import CheckpointPoint, Diary, ValidationPoint
from .metrics import Score, mean_score, score
from .network import WaveSSM
from .photographs import WHITE, DataError, load_photographs

LOSS_SCALE = 4096.0  # ordinary gradients fit float16 at this scale: a skipped step means that something happened
VALIDATION_BATCHES = 6


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the command line says. Returns the exit code: 0, or 2 with a line on stderr for data it cannot use."""
    args = parse_arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)  # the hook's lines among our own
    try:
        train(args)
    except (DataError, trainvitals.CheckpointError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    return 0


def train(args: argparse.Namespace) -> "Training":
    """Do the whole training and return it, finished."""
    torch.manual_seed(args.seed)
    training = Training(args)
    started = time.monotonic()
    with trainvitals.watch(
        training.model,
        training.optimizer,
        scaler=training.scaler,
        name="wavessm",
        config=vars(args),
        auto_sanitize=args.auto_sanitize,
        mode=args.mode,
        allow=("sanitize", "undo"),
        start_step=training.diary.start + 1,  # the hook's steps are then our iterations
    ) as watch:
        watch.best_metric = training.best_metric
        training.run(watch)
    if args.json_out:
        seconds = round(time.monotonic() - started, 3)
        training.diary.write(args.json_out, run_id=watch.run_id, seconds=seconds, config=settings(args))
    return training


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments as JSON can hold them."""
    return {name: value if isinstance(value, int | float | list) else str(value) for name, value in vars(args).items()}


class Step(NamedTuple):
    """What an iteration gave, all of it detached and on the device: the loss, the network's output, and the L2 norm of
    all gradients before and after clipping. With an infinite norm clipping makes the infinite gradients NaN."""

    loss: Tensor
    output: Tensor
    norm: Tensor
    clipped: Tensor


class Training:
    """Network, optimizer, scaler, data, and the diary of their run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.device = torch.device(args.device)
        self.model = WaveSSM().to(self.device)
        trainvitals.configure_bn_for_stability(self.model, momentum=args.bn_momentum, eps=args.bn_eps)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=args.lr)
        self.scaler = torch.amp.GradScaler(args.device, init_scale=LOSS_SCALE)
        photographs = load_photographs(args.data_path)
        self.batches = TrainingBatches(photographs.training, args.batch_size, args.seed, args.bad_steps)
        self.validation = ValidationBatches(photographs.validation, args.batch_size, VALIDATION_BATCHES)
        self.diary = Diary()
        self.best_metric: float | None = None
        if args.resume:
            self.resume()

    def resume(self) -> None:
        """Take up weights, optimizer, scaler, best metric and iteration from the checkpoint at `--model_file`."""
        # what is corrupt in it is left to `watch`, which repairs and records it as `--auto_sanitize` says
        loaded = trainvitals.load_checkpoint(
            self.args.model_file, self.model, self.optimizer, self.scaler, sanitize=False
        )
        self.best_metric = loaded.best_metric
        self.diary.start = loaded.extra.get("n_iter", loaded.step or 0)
        print(f"Resumed from {self.args.model_file} at iter {self.diary.start}", flush=True)

    def run(self, watch: trainvitals.Watch) -> None:
        """Train up to `--iters`, validating and saving on the way."""
        for n_iter in range(self.diary.start + 1, self.args.iters + 1):
            step = self.train_step(n_iter)
            watch.step(loss=step.loss, output=step.output, norm_before_clip=step.norm, norm_clipped=step.clipped)
            self.diary.note(step.loss, step.norm)
            if n_iter % self.args.val_every == 0:
                self.validate(n_iter, watch)
            if n_iter % self.args.save_every == 0:
                self.save(n_iter, watch)

    def train_step(self, n_iter: int) -> Step:
        """One iteration. The scaler leaves the weights alone where a gradient is not finite."""
        batch = self.batches[n_iter]
        self.optimizer.zero_grad(set_to_none=True)
        output = self.restore(batch.degraded)
        loss = self.criterion(output, batch.clean)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        clipped = norm * (self.args.clip / (norm + 1e-6)).clamp(max=1.0)  # the factor clip_grad_norm_ applies
        return Step(loss.detach(), output.detach(), norm, clipped)

    def restore(self, degraded: Tensor) -> Tensor:
        """The network's output, float32 on its device, for a batch [B, 3, H, W]."""
        with torch.autocast(self.device.type, dtype=torch.float16):
            restored: Tensor = self.model(degraded.to(self.device, non_blocking=True))
        return restored

    def criterion(self, restored: Tensor, clean: Tensor) -> Tensor:
        """Mean absolute error, in units of white."""
        return l1_loss(restored, clean.to(self.device, non_blocking=True)) / WHITE

    @torch.no_grad()
    def validate(self, n_iter: int, watch: trainvitals.Watch) -> None:
        """Score the validation crops; a batch whose output or loss is not finite fails."""
        scores: list[Score] = []
        self.model.eval()
        with watch.validation(total=len(self.validation)) as val:
            for batch in self.validation:
                with val.batch() as b:
                    b.output = self.restore(batch.degraded)
                    b.loss = self.criterion(b.output, batch.clean)
                    if bool(torch.isfinite(b.output).all()):
                        scores.append(score(b.output, batch.clean))
            if mean := mean_score(scores):
                val.metrics(psnr=mean.psnr, ssim=mean.ssim)
        self.model.train()
        psnr, ssim = mean or (None, None)
        point = ValidationPoint(n_iter, val.valid, val.failed, len(self.validation), val.mean_loss, psnr, ssim)
        self.diary.validations.append(point)
        if point.valid:  # of the others the hook has spoken
            print(point.line(), flush=True)

    def save(self, n_iter: int, watch: trainvitals.Watch) -> None:
        """Save everything needed to resume, unless the guard refuses a corrupt model."""
        psnr = self.diary.psnr_at(n_iter)
        extra = {"n_iter": n_iter, "args": settings(self.args)}
        result = watch.save_checkpoint(self.args.model_file, extra=extra, metric=psnr)
        self.diary.checkpoints.append(CheckpointPoint(n_iter, bool(result), result.best, result.key))
        if result.best:
            print("  ★ New best!", flush=True)
        if result:
            print(f"Checkpoint saved: {result.path}", flush=True)
