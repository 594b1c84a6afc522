"""What each process of a distributed test does; see `processes.py`. Models are small, and breaks are planted."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.nn.functional import all_reduce
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

import trainvitals
from loops import of_type, spooled
from trainvitals import ranks, wire
from trainvitals.control.desk import RefusedError
from trainvitals.probes.guard import Guard

ROWS, WIDTH = 4, 8
COLLECTIVES = (
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "gather_object",
    "irecv",
    "isend",
    "monitored_barrier",
    "new_group",
    "recv",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
    "scatter_object_list",
    "send",
)


class Told(NamedTuple):
    """What a rank saw of itself."""

    run: str
    spool: Path
    finite: list[bool]  # after each step: whether its own statistics were
    others: dict[str, Any]


def norm_net() -> nn.Sequential:
    """Two layers with running statistics."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(WIDTH, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Linear(16, 4)
    )


def plain_net() -> nn.Sequential:
    """Nothing that depends on who else is in the batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, 16), nn.ReLU(), nn.Linear(16, 4))


class GatheredNorm(nn.BatchNorm1d):
    """What SyncBatchNorm does on a GPU: in training, the statistics are those of all ranks' batches."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        sums = all_reduce(torch.stack([x.sum(0), x.square().sum(0), torch.full_like(x[0], len(x))]))
        mean = sums[0] / sums[2]
        var = sums[1] / sums[2] - mean.square()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum or 0.1)
            self.running_var.lerp_(var, self.momentum or 0.1)
        return (x - mean) / (var + self.eps).sqrt() * self.weight + self.bias


def gathered_net() -> nn.Sequential:
    """The same with gathered statistics."""
    model = norm_net()
    for place in (1, 4):
        model[place] = GatheredNorm(16)
    return model


def synchronised(rank: int) -> list[str]:
    """What SyncBatchNorm says on a CPU, by itself and within DDP."""
    said = []
    layer = nn.SyncBatchNorm(WIDTH)
    for attempt in (lambda: layer(share(rank, 0, 2)), lambda: DistributedDataParallel(layer)):
        try:
            attempt()
        except ValueError as error:
            said.append(str(error))
    return said


class Forked(nn.Module):
    """One of its two branches is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = plain_net(), nn.Linear(WIDTH, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


def rows(step: int, size: int, part: int = 0) -> torch.Tensor:
    """The whole batch of a step, [size * ROWS, WIDTH]; each rank takes its ROWS of it."""
    generator = torch.Generator().manual_seed(1000 * part + step + 1)
    return torch.randn(size * ROWS, WIDTH, generator=generator)


def share(rank: int, step: int, size: int, part: int = 0) -> torch.Tensor:
    """A rank's rows."""
    return rows(step, size, part)[rank * ROWS : (rank + 1) * ROWS]


def statistics(model: nn.Module) -> Iterator[torch.Tensor]:
    """Every running statistic."""
    return (buffer for name, buffer in model.named_buffers() if "running" in name)


def is_finite(model: nn.Module) -> bool:
    """Whether all of them are."""
    return all(bool(torch.isfinite(buffer).all()) for buffer in statistics(model))


def break_one(
    rank: int,
    bad: dict[int, list[int]],
    steps: int,
    settings: dict[str, Any],
    wrap: dict[str, Any],
    late: bool = False,
    explicit: bool = True,
    gathered: bool = False,
    scaled: bool = True,
) -> Told:
    """A loop with a grad scaler under DDP; at the steps in `bad` those ranks see an infinite batch. With `late` the
    wrapper comes after `watch`, and is not given to it."""
    size = distributed.get_world_size()
    inner = gathered_net() if gathered else norm_net()
    model = inner if late else DistributedDataParallel(inner, **wrap)
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=scaled)
    watch = trainvitals.watch(model, optimizer, scaler=scaler, **{"mode": "offline", "health_every": 4, **settings})
    model = DistributedDataParallel(inner, **wrap) if late else model
    finite = []
    for step in range(steps):
        x = share(rank, step, size)
        x = x * float("inf") if rank in bad.get(step, []) else x
        loss = model(x).square().mean()
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        finite.append(is_finite(inner))
        if explicit:
            watch.step(loss=loss)
    with watch.validation(total=1) as validation, validation.batch() as batch, torch.no_grad():
        batch.loss = inner.eval()(share(rank, 0, size)).square().mean()
    watch.close()
    assert watch.spool_path is not None
    total = float(sum(buffer.sum() for buffer in statistics(inner)))
    others = {"finite": is_finite(inner), "valid": validation.valid, "sum": total}
    return Told(watch.run_id, watch.spool_path, finite, others)


def plain_norms(rank: int, steps: int, variant: str, settings: dict[str, Any]) -> Told:
    """A plain loop under DDP, in one of the ways that DDP has of going about gradients."""
    size = distributed.get_world_size()
    inner = Forked() if variant == "unused" else plain_net()
    wrap: dict[str, Any] = {"unused": {"find_unused_parameters": True}, "static": {"static_graph": True}}.get(
        variant, {}
    )
    wrapped = DistributedDataParallel(inner, **wrap)
    model: Any = torch.compile(wrapped, backend="aot_eager") if variant == "compiled" else wrapped
    optimizer = torch.optim.SGD(inner.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, **{"mode": "offline", **settings})
    parts = 3 if variant == "accumulated" else 1
    for step in range(steps):
        optimizer.zero_grad()
        for part in range(parts):
            with wrapped.no_sync() if part < parts - 1 else nullcontext():
                model(share(rank, step, size, part)).square().mean().backward()
        optimizer.step()
        watch.step()
    watch.close()
    assert watch.spool_path is not None
    return Told(watch.run_id, watch.spool_path, [], {})


def true_norms(steps: int, size: int, parts: int = 1) -> list[dict[str, float]]:
    """The twin in one process, on all ranks' rows: each parameter's gradient norm, by step."""
    model = plain_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    found = []
    for step in range(steps):
        optimizer.zero_grad()
        for part in range(parts):
            model(rows(step, size, part)).square().mean().backward()
        found.append({name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None})
        optimizer.step()
    return found


def drifting(rank: int, steps: int, planted: dict[int, str], settings: dict[str, Any]) -> Told:
    """A plain loop under DDP in which each rank has its own statistics, of data as uneven as its rank. From the middle
    on a rank in `planted` goes its own way: by its "data", or once by one of its "weights"."""
    size = distributed.get_world_size()
    inner = norm_net()
    model = DistributedDataParallel(inner, broadcast_buffers=False)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, **{"mode": "offline", "health_every": 2, **settings})
    for step in range(steps):
        late = step >= steps // 2
        scale = 100.0 if late and planted.get(rank) == "data" else 1 + rank / 4
        loss = model(scale * share(rank, step, size)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step == steps // 2 and planted.get(rank) == "weights":
            with torch.no_grad():
                inner[3].weight.mul_(1.01)
        watch.step(loss=loss)
    watch.close()
    assert watch.spool_path is not None
    return Told(watch.run_id, watch.spool_path, [], {})


def alone(rank: int) -> str:
    """Only rank 0 calls `watch`, as many scripts have it; both train."""
    model = DistributedDataParallel(plain_net())
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, mode="offline") if rank == 0 else None
    for step in range(3):
        model(share(rank, step, 2)).square().mean().backward()
        optimizer.step()
    if watch is not None:
        watch.close()
    return watch.run_id if watch else ""


def gathering_alone(rank: int, bad: int, steps: int) -> list[wire.Culprit]:
    """Rank 0 alone watches a model whose forward waits for all ranks; what it says broke first in step `bad`."""
    model = gathered_net()
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, mode="offline") if rank == 0 else None
    for step in range(steps):
        x = share(rank, step, 2)
        model(x * 1e30 if (rank, step) == (0, bad) else x).square().mean().backward()
        optimizer.step()
    if watch is None:
        return []
    watch.close()
    assert watch.spool_path is not None
    return of_type(spooled(watch.spool_path), wire.Culprit)


def save_alone(rank: int, folder: Path) -> tuple[str, str]:
    """Under FSDP rank 0 alone saves, and is told by a command to; the outcome of each."""
    model = sharded(norm_net())
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    said = "", ""
    for step in range(4):
        model(share(rank, step, 2)).square().mean().backward()
        optimizer.step()
        if rank == 0 and step == 1:
            try:
                watch._save_on_command()
            except RefusedError as refused:
                said = watch.save_checkpoint(folder / "part.pth").outcome, str(refused)
    watch.close()
    return said


def unanswered(rank: int) -> tuple[str, list[str]]:
    """Rank 1 alone asks for a run; the beginning of what it logs."""
    if rank == 0:
        return "", []
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage().partition(",")[0])  # type: ignore[method-assign]
    logging.getLogger("trainvitals").addHandler(handler)
    ranks.AGREE_SECONDS = 0.1
    return ranks.join(None, "own")[0], lines


def ungrouped(rank: int) -> tuple[str, str]:
    """Two watches before there is any process group."""
    first = trainvitals.watch(plain_net(), mode="offline")
    second = trainvitals.watch(plain_net(), mode="offline")
    first.close()
    second.close()
    return first.run_id, second.run_id


class Spied(NamedTuple):
    """What trainvitals asked other processes for while the loop ran, and what became of the run."""

    asked: list[str]
    run: str
    spool: Path
    steps: int


def spied_on(rank: int, steps: int, broken: tuple[str, ...], fsdp: bool) -> Spied:
    """A loop in which every collective and every operator of a process group that is called from within trainvitals is
    noted; on rank 1 the probes named `broken` raise at each reading."""
    size = distributed.get_world_size()
    inner = norm_net()
    model: nn.Module = sharded(inner) if fsdp else DistributedDataParallel(inner)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="offline", health_every=2)
    asked = spy()
    if rank == 1:
        for name in broken:
            probe = getattr(watch._vitals.signs, name)
            for one in probe if isinstance(probe, list) else [(probe,)]:
                one[0].read = fail
    done = 0
    for step in range(steps):
        model(share(rank, step, size)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        watch.step(loss=torch.tensor(1.0))
        done += 1
    with watch.validation(total=1):
        pass
    watch.close()
    assert watch.spool_path is not None
    return Spied(asked, watch.run_id, watch.spool_path, done)


def fail(*_: object) -> Any:
    """Stands in for a probe's reading."""
    raise RuntimeError("planted")


class Operators(TorchDispatchMode):
    """Notes the operators of process groups."""

    def __init__(self, asked: list[str]) -> None:
        super().__init__()
        self._asked = asked

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(one, DTensor) for one in types):
            return NotImplemented  # what it does itself comes back here
        if "c10d" in func.namespace:
            self._asked.append(str(func))
        return func(*args, **(kwargs or {}))


def spy() -> list[str]:
    """From here on, a list of what trainvitals asks other processes for. Everything it does in a loop goes through its
    guard, within which no operator of a process group may run; and none of its frames may call a collective."""
    asked: list[str] = []
    run = Guard.run

    def spied(self: Guard, probe: str, call: Any, default: Any) -> Any:
        with Operators(asked):
            return run(self, probe, call, default)

    def noted(name: str, original: Any) -> Any:
        def call(*arguments: Any, **rest: Any) -> Any:
            if any("client_hook/trainvitals" in frame.filename for frame in traceback.extract_stack()):
                asked.append(name)
            return original(*arguments, **rest)

        return call

    Guard.run = spied  # type: ignore[method-assign,assignment]
    for module in (distributed, distributed.distributed_c10d):
        for name in COLLECTIVES:
            setattr(module, name, noted(name, getattr(module, name)))
    return asked


def sharded(model: nn.Sequential, repeated: bool = False) -> nn.Module:
    """The same by FSDP: two groups of parameters, over all ranks, or over half of them with the other half repeating
    it."""
    size = distributed.get_world_size()
    shape = (2, size // 2) if repeated else (size,)
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=("repeat", "shard") if repeated else ("shard",))
    fully_shard(model[0], mesh=mesh)
    return fully_shard(model, mesh=mesh)


def shard_norms(rank: int, steps: int, repeated: bool, settings: dict[str, Any]) -> tuple[Told, list[dict[str, float]]]:
    """A plain loop under FSDP, and the true norms by collectives of the loop's own."""
    size = distributed.get_world_size()
    model = sharded(plain_net(), repeated)
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, **{"mode": "offline", "health_every": 2, **settings})
    found = []
    for step in range(steps):
        optimizer.zero_grad()
        model(share(rank, step, size)).square().mean().backward()
        found.append({name: float(p.grad.full_tensor().norm()) for name, p in model.named_parameters()})  # type: ignore[union-attr]
        optimizer.step()
        watch.step()
    watch.close()
    assert watch.spool_path is not None
    return Told(watch.run_id, watch.spool_path, [], {}), found


def flat_norms(rank: int, steps: int) -> tuple[Told, float]:
    """The same by FSDP of the first kind, whose flat parameters hold whole units; and the true total by a twin."""
    torch.manual_seed(0)
    twin = plain_net()
    model = plain_net()
    model.load_state_dict(twin.state_dict())
    cpu = torch.device("cpu")
    model[0] = FullyShardedDataParallel(model[0], device_id=cpu)
    whole = FullyShardedDataParallel(model, device_id=cpu)
    optimizer = torch.optim.SGD(whole.parameters(), 0.0)
    watch = trainvitals.watch(whole, optimizer, mode="offline")
    for _ in range(steps):
        optimizer.zero_grad()
        whole(share(rank, 0, 2)).square().mean().backward()
        optimizer.step()
        watch.step()
    watch.close()
    batch = torch.cat([share(one, 0, 2) for one in range(2)])
    twin(batch).square().mean().backward()
    assert watch.spool_path is not None
    squares = [float(p.grad.square().sum()) for p in twin.parameters() if p.grad is not None]
    return Told(watch.run_id, watch.spool_path, [], {}), sum(squares)


def fallen(rank: int, at: int, settings: dict[str, Any]) -> str:
    """Rank 1 raises in a step that the other cannot finish without it."""
    model = DistributedDataParallel(plain_net())
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, **settings)
    with suppress(ValueError, RuntimeError), watch:
        for step in range(at + 2):
            if rank == 1 and step == at:
                raise ValueError("planted")
            model(share(rank, step, 2)).square().mean().backward()
            optimizer.step()
            watch.step()
    return watch.run_id


def clipped_shards(rank: int, steps: int) -> tuple[Told, list[float]]:
    """A loop under FSDP that clips; the total norm after it, by collectives of the loop's own."""
    model = sharded(plain_net())
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    watch = trainvitals.watch(model, optimizer, mode="offline")
    found = []
    for step in range(steps):
        optimizer.zero_grad()
        model(share(rank, step, 2)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        norms = [p.grad.full_tensor().norm() for p in model.parameters()]  # type: ignore[union-attr]
        found.append(float(torch.stack(norms).norm()))
        optimizer.step()
        watch.step()
    watch.close()
    assert watch.spool_path is not None
    return Told(watch.run_id, watch.spool_path, [], {}), found
