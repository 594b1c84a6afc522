"""Small real training loops for the tests, and a reader of what they spooled."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from trainvitals import wire
from trainvitals.delivery.reading import SpoolReader

R = TypeVar("R")


def small_net(seed: int = 0) -> nn.Sequential:
    """Two convolutions with BatchNorm and a head; eight channels."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 3, 3, padding=1),
    )


def batches(count: int, seed: int = 1, bad: tuple[int, ...] = ()) -> Iterator[torch.Tensor]:
    """Seeded batches [2, 3, 8, 8]; those numbered in `bad` overflow fp16."""
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        batch = torch.rand(2, 3, 8, 8, generator=generator)
        yield batch * 3e5 if i in bad else batch


def train_fp16(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    data: Iterator[torch.Tensor],
    after: Callable[[int, torch.Tensor], Any] = lambda step, loss: None,
) -> None:
    """The usual mixed-precision loop, with clipping; `after` is called at the end of each step."""
    for step, x in enumerate(data):
        with torch.autocast("cpu", dtype=torch.float16):
            loss = ((model(x) - x).float() ** 2).mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        after(step, loss)


def train_fp32(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: Iterator[torch.Tensor],
    after: Callable[[int, torch.Tensor], Any] = lambda step, loss: None,
) -> None:
    """A plain loop."""
    for step, x in enumerate(data):
        loss = ((model(x) - x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after(step, loss)


def spooled(path: Path) -> list[wire.Record]:
    """Every record in a producer's spool, in order."""
    reader = SpoolReader(path)
    reader.seek(0)
    records: list[wire.Record] = []
    while batch := reader.batch():
        records += [wire.decode_record(data) for data in batch.records]
    reader.close()
    return records


def of_type(records: list[wire.Record], kind: type[R]) -> list[R]:
    """The records of one type."""
    return [record for record in records if isinstance(record, kind)]


def columns(records: list[wire.Record], layout: int = 0) -> dict[tuple[str, str], int]:
    """(layer, stat) -> column of a layout."""
    pieces = [piece for piece in of_type(records, wire.Layout) if piece.id == layout]
    return {(s.layer, s.stat): piece.offset + i for piece in pieces for i, s in enumerate(piece.series)}
