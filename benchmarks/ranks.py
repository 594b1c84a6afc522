"""How far the ranks of healthy runs are apart, and which planted divergences rule 27 names: real processes over gloo.

python benchmarks/ranks.py [--steps 300] [--sizes 2 4]
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.multiprocessing.spawn import start_processes
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import trainvitals
from healthy import block, images, tabular
from judged import spooled
from trainvitals import wire
from trainvitals_server.rules import Block, Finding, apart, rank_disagreement

EVERY = 20  # steps between two at which ranks are compared; 100 by default


@dataclass(frozen=True)
class Case:
    """A training: what a rank's batch `x` is, [rows, 3, 8, 8] from it and its number, and what is done to the model
    after the step at which something is planted."""

    name: str
    data: Callable[[Tensor, int], Tensor] = lambda x, rank: x
    wrap: str = "own"  # DDP with each rank's own statistics; "broadcast"; "fsdp"
    table: bool = False
    half: bool = False
    parts: int = 1
    planted: Callable[[nn.Module], None] | None = None  # once, on the last rank
    late: Callable[[Tensor], Tensor] | None = None  # its data from then on
    settings: dict[str, Any] | None = None


def scale_weights(model: nn.Module) -> None:
    """Of the first layer, by a hundredth."""
    with torch.no_grad():
        next(model.parameters()).mul_(1.01)


def break_statistics(model: nn.Module) -> None:
    """Of the first layer."""
    next(buffer for name, buffer in model.named_buffers() if "running_var" in name).fill_(float("nan"))


HEALTHY = (
    Case("alike data"),
    Case("alike data, statistics of rank 0 for all", wrap="broadcast"),
    Case("2 images on one rank, 16 on the next", lambda x, rank: x[: 2 if rank % 2 else 16]),
    Case("contrast of rank r times 1 + r / 2", lambda x, rank: x * (1 + rank / 2)),
    Case("each rank its own brightness", lambda x, rank: x + rank),
    Case("one rank sees flat images", lambda x, rank: x.mean((2, 3), keepdim=True).expand(x.shape) if rank == 1 else x),
    Case("tables with heavy tails", table=True),
    Case("three backwards a step", parts=3),
    Case("fp16 with a grad scaler", half=True),
    Case("sharded (FSDP)", wrap="fsdp"),
)
PLANTED = (
    Case("inputs of one rank times 30", late=lambda x: x * 30),
    Case("statistics of one rank NaN, no repair", planted=break_statistics, settings={"auto_sanitize": "off"}),
    Case("one weight tensor of one rank times 1.01", planted=scale_weights),
    Case("the same, statistics of rank 0 for all", planted=scale_weights, wrap="broadcast"),
)


def network(case: Case) -> nn.Sequential:
    """The same on every rank."""
    torch.manual_seed(0)
    if case.table:
        return nn.Sequential(nn.BatchNorm1d(10), nn.Linear(10, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    return nn.Sequential(block(3, 8), block(8, 8), nn.Conv2d(8, 3, 3, padding=1))


def wrapped(case: Case, model: nn.Module) -> Any:
    """The model as it trains."""
    if case.wrap == "fsdp":
        return fully_shard(model)
    return DistributedDataParallel(model, broadcast_buffers=case.wrap == "broadcast")


def batch(case: Case, rank: int, size: int, n: int) -> Tensor:
    """A rank's rows of step `n`."""
    x = tabular(n * size + rank)[0] if case.table else images(n * size + rank, size=16)
    return case.data(x, rank)


def error(case: Case, model: Any, x: Tensor) -> Tensor:
    """How far what comes out is from what went in."""
    with torch.autocast("cpu", dtype=torch.float16, enabled=case.half):
        out = model(x)
    return functional.mse_loss(out.float(), x[:, : out.shape[1]].clamp(-1, 1))


def train(case: Case, rank: int, size: int, steps: int, directory: str) -> Path:
    """One rank's loop; where its records are."""
    inner = network(case)
    model = wrapped(case, inner)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    scaler = torch.amp.GradScaler("cpu", enabled=case.half)
    options: dict[str, Any] = {
        "mode": "offline",
        "directory": directory,
        "health_every": EVERY,
        **(case.settings or {}),
    }
    watch = trainvitals.watch(model, optimizer, scaler=scaler, **options)
    for step in range(steps):
        optimizer.zero_grad()
        for part in range(case.parts):
            x = batch(case, rank, size, step * case.parts + part)
            if case.late is not None and rank == size - 1 and step >= steps // 2:
                x = case.late(x)
            with nullcontext() if part == case.parts - 1 else model.no_sync():
                loss = error(case, model, x)
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        if case.planted is not None and rank == size - 1 and step == steps // 2:
            case.planted(inner)
        watch.step(loss=loss.detach())
    watch.close()
    assert watch.spool_path is not None
    return watch.spool_path


def train_all(rank: int, size: int, steps: int, directory: str) -> None:
    """One of `size` processes; the places of its records go into a file."""
    torch.set_num_threads(1)
    store = dist.FileStore(f"{directory}/meet", size)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    spools = [str(train(case, rank, size, steps, directory)) for case in (*HEALTHY, *PLANTED)]
    Path(directory, f"rank{rank}").write_text("\n".join(spools))
    dist.destroy_process_group()


def compared(spools: Sequence[Path]) -> Iterator[Block]:
    """What ranks told of themselves in these spools, as the server takes it together."""
    told = [layouts(spooled(one)) for one in spools]
    for group in zip(*told, strict=True):
        values = np.stack([rows for _, rows in group]).astype(np.float64)
        series = group[0][0]
        steps = np.arange(1, values.shape[1] + 1) * EVERY
        found = apart.compare(values, np.ones(values.shape[1:], np.bool_)).astype(np.float32)
        yield Block(apart.columns(series), steps, steps.astype(float), found, None, ())


def layouts(records: list[wire.Record]) -> list[tuple[list[wire.Series], np.ndarray[Any, Any]]]:
    """The layouts that are compared, with their values, float32[steps, columns]."""
    found = []
    for one in records:
        if isinstance(one, wire.Layout) and one.series[0].stat.endswith(wire.COMPARED):
            frames = [it for it in records if isinstance(it, wire.Frame) and it.layout == one.id]
            assert all(it.present is None for it in frames)
            names = [wire.Series(it.id, it.layer, it.kind, it.stat.removesuffix(wire.COMPARED)) for it in one.series]
            found.append((names, np.stack([np.frombuffer(it.values, "<f4") for it in frames])))
    return found


def judge(spools: Sequence[Path]) -> tuple[dict[apart.Measure, float], list[Finding]]:
    """The largest distance of each measure, and what rule 27 found."""
    state, found, most = rank_disagreement.State(), list[Finding](), dict[apart.Measure, float]()
    for one in compared(spools):
        for measure in (apart.WEIGHTS, apart.VARIANCES):
            times = apart.farthest(one, measure).times(measure.floor)
            if times.size:
                most[measure] = float(times.max())
        state, findings = rank_disagreement.fold(state, one)
        found += findings
    return most, found


def report(size: int, directory: str) -> Iterator[list[str]]:
    """One row per training."""
    spools = [Path(directory, f"rank{rank}").read_text().splitlines() for rank in range(size)]
    for case, own in zip((*HEALTHY, *PLANTED), zip(*spools, strict=True), strict=True):
        most, found = judge([Path(one) for one in own])
        weights = f"{most[apart.WEIGHTS] - 1:.1e}" if apart.WEIGHTS in most else "-"
        fired = [finding for finding in found if finding.active]
        texts = "; ".join(finding.text for finding in fired[:1]) + (f" ({len(fired)} in all)" if fired else "silent")
        kind = "planted" if case in PLANTED else "healthy"
        yield [str(size), kind, case.name, weights, f"{most[apart.VARIANCES]:.3g}", texts]


def main() -> None:
    """Print a row per training, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--sizes", type=int, nargs="*", default=[2, 4], help="how many ranks")
    options = parser.parse_args()
    head = ["ranks", "", "training", "weights apart", "variances, times", "rule 27"]
    for row in (head, ["---:", "---", "---", "---:", "---:", "---"]):
        print("| " + " | ".join(row) + " |")
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as directory:
            start_processes(train_all, args=(size, options.steps, directory), nprocs=size, start_method="spawn")  # type: ignore[no-untyped-call]
            for row in report(size, directory):
                print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
