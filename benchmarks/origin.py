"""How often the module that broke first is named exactly.

    python benchmarks/origin.py

Each plant (`plants.py`) is a real training in which the culprit is known by construction; the last one is a
DistributedDataParallel training of two processes in which one rank's batch is bad. The origin told by the hook is exact
if step, place and layer are; `unknown` with candidates is not.
"""

import os
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import start_processes

import trainvitals
from plants import BAD, Log, Plant, conv, plants, train
from trainvitals import wire
from trainvitals.delivery.reading import SpoolReader


def told(spool: Path | None) -> list[wire.Culprit]:
    """The origins in a producer's spool."""
    assert spool is not None
    reader = SpoolReader(spool)
    reader.seek(0)
    records = []
    while batch := reader.batch():
        records += [wire.decode_record(data) for data in batch.records]
    reader.close()
    return [record for record in records if isinstance(record, wire.Culprit)]


def is_exact(plant: Plant, origin: wire.Culprit | None) -> bool:
    """Whether the origin is what was planted."""
    return origin is not None and (origin.step, origin.layer) == (BAD, plant.layer) and origin.place in plant.places


def follow(plant: Plant, directory: str) -> wire.Culprit | None:
    """Train the plant under the hook; the first origin told."""
    watch = train(plant, partial(trainvitals.watch, directory=directory))
    return next(iter(told(watch.spool_path)), None)


def rank_plant(rank: int, bad_rank: int) -> Plant:
    """One DDP rank: its own batches are good everywhere but on the bad one, whose input makes a logarithm break."""
    torch.manual_seed(0)
    model = nn.Sequential(conv(), nn.Sigmoid(), Log(), conv())
    if rank != bad_rank:
        return Plant("one DDP rank", model, "", ("elsewhere",), seed=rank)
    dark = partial(torch.mul, other=-1e6)
    return Plant("one DDP rank", model, "2", seed=rank, spoil=lambda batch: (dark(batch[0]), batch[1]))


def train_rank(rank: int, size: int, directory: str) -> None:
    """One of `size` processes; its origin goes into a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{directory}/meet", rank=rank, world_size=size)
    plant = rank_plant(rank, bad_rank=1)
    with torch.no_grad():
        next(plant.model.parameters()).abs_()
    wrapped = nn.parallel.DistributedDataParallel(plant.model)
    watch = train(plant, partial(trainvitals.watch, directory=directory), wrapped)
    first = next(iter(told(watch.spool_path)), None)
    exact = is_exact(plant, first)
    where = f"{first.place} {first.layer}".strip() if first else "nothing"
    Path(directory, f"rank{rank}").write_text(f"{int(exact)} {where}")
    dist.destroy_process_group()


def follow_ranks(size: int = 2) -> tuple[bool, str]:
    """Whether the bad rank named its module and the others said that it was not theirs; and what they said."""
    with tempfile.TemporaryDirectory() as directory:
        os.environ["TRAINVITALS_RUN_ID"] = "ranks"
        try:
            start_processes(train_rank, args=(size, directory), nprocs=size, start_method="spawn")  # type: ignore[no-untyped-call]
        finally:
            del os.environ["TRAINVITALS_RUN_ID"]
        said = [Path(directory, f"rank{rank}").read_text().split(" ", 1) for rank in range(size)]
    return all(exact == "1" for exact, _ in said), "; ".join(f"rank {i}: {text}" for i, (_, text) in enumerate(said))


def main() -> None:
    """Print one line per plant, and how many were exact."""
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as directory:
        for plant in plants():
            origin = follow(plant, directory)
            words = f"{origin.place} {origin.layer} {origin.type}".strip() if origin else "nothing"
            results.append((plant.name, is_exact(plant, origin), words))
    results.append(("one DDP rank", *follow_ranks()))
    for name, exact, words in results:
        print(f"{name:28} {'exact' if exact else 'NOT EXACT':10} {words}")
    count = sum(exact for _, exact, _ in results)
    print(f"{count} of {len(results)} named exactly")
    sys.exit(count < len(results))


if __name__ == "__main__":
    main()
