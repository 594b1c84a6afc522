"""A training whose data come from worker processes: `worker_training.py fork|spawn`, run as a program.

The dataset holds the watched model and the watch's process id, as datasets do that use the model to choose or to
augment. It prints one JSON object: what the workers saw of the hook, and the spool.
"""

import json
import os
import sys
import threading
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import trainvitals

STEPS = 6
watch: trainvitals.Watch | None = None


class Samples(Dataset[dict[str, Any]]):
    """Items made with the model itself."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __len__(self) -> int:
        return 4 * STEPS

    def __getitem__(self, index: int) -> dict[str, Any]:
        torch.manual_seed(index)
        x = torch.rand(6)
        with torch.enable_grad():  # a forward and a backward of the worker's own copy
            self.model(torch.stack([x, x + 1])).sum().backward()
        return {
            "x": x,
            "pid": os.getpid(),
            "state": watch.state if watch is not None else "none",
            "threads": sum(thread.name.startswith("trainvitals") for thread in threading.enumerate()),
        }


def main(method: str) -> None:
    """Train two epochs."""
    global watch  # noqa: PLW0603 - what a forked worker finds in its copy of the process
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 6))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    watch = trainvitals.watch(model, optimizer, mode="online", server="http://127.0.0.1:9", run_id="r")
    loader = DataLoader(
        Samples(model), batch_size=4, num_workers=2, multiprocessing_context=method, persistent_workers=True
    )
    seen: list[dict[str, Any]] = []
    for _ in range(2):
        for batch in loader:
            optimizer.zero_grad()
            model(batch["x"]).square().mean().backward()
            optimizer.step()
            plain = {"pid": batch["pid"].tolist(), "state": batch["state"], "threads": batch["threads"].tolist()}
            seen.append(plain)
    watch.close()
    workers = {pid for one in seen for pid in one["pid"]}
    print(
        json.dumps(
            {
                "steps": len(seen),
                "workers": len(workers),
                "own": os.getpid() in workers,
                "states": sorted({state for one in seen for state in one["state"]}),
                "threads": sorted({count for one in seen for count in one["threads"]}),
                "spool": str(watch.spool_path),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
