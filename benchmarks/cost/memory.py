"""What watching keeps in memory: the process's largest resident set in watched steps beside plain ones.

    python -m cost.memory CASE

One process trains first plain, then watched; the kernel's high-water mark (VmHWM) is reset before the steps that count.
They come after 210 watched steps, when the memory of earlier statistics is full. Another network is watched before all
that, so that the package's code, which is loaded by then, is not counted. Prints one JSON object, in bytes.
"""

import ctypes
import gc
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import trainvitals
from cost.networks import CASES, Case

FULL = 210  # steps: four snapshots, 50 steps apart, and what comes before them
COUNTED = 20


def peak_of(steps: int, step: "Step") -> int:
    """The largest resident set within `steps`."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(steps):
        step()
    (line,) = (row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) << 10


class Step:
    """One training step after the other."""

    def __init__(self, case: Case) -> None:
        self.model = case.build()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, momentum=0.9)
        self._x, self._y = case.data()

    def __call__(self) -> None:
        """The next one."""
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self._x), self._y).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()


def load_code() -> None:
    """Watch something small for a few steps."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with (
        tempfile.TemporaryDirectory() as folder,
        trainvitals.watch(model, optimizer, mode="offline", directory=folder, health_every=2),
    ):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(2, 3, 8, 8)).square().mean().backward()
            optimizer.step()


def measure(case: Case) -> dict[str, int]:
    """`added` is the difference, `statistics` the size of all running statistics once."""
    load_code()
    step = Step(replace(case, batch=2, size=min(case.size, 32)))
    for _ in range(COUNTED):
        step()
    plain = peak_of(COUNTED, step)
    statistics = sum(b.nbytes for name, b in step.model.named_buffers() if "running" in name)
    with (
        tempfile.TemporaryDirectory() as folder,
        trainvitals.watch(step.model, step.optimizer, mode="offline", directory=folder),
    ):
        for _ in range(FULL):
            step()
        watched = peak_of(COUNTED, step)
    return {"added": watched - plain, "statistics": statistics, "plain": plain}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print("RESULT " + json.dumps(measure(CASES[sys.argv[1]])))
