"""What diagnosing a large checkpoint costs: seconds beside a plain read of the file, and the reader's peak memory.

    python benchmarks/diagnose.py [--gigabytes 5] [--rounds 3]

A checkpoint of that size is written to a temporary folder. Rounds of reading it once in pieces, and of `diagnose` on
it, are interleaved; medians are printed. The peak is the largest resident set of the process that reads the file, as
the kernel counted it (VmHWM).
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from trainvitals.diagnose.parent import diagnose

TENSOR = 64 << 20  # elements of one tensor, float32: 256 MiB


def write(path: Path, gigabytes: float) -> None:
    """A state dict of random weights, with a corrupt statistic in it."""
    count = max(1, round(gigabytes * 1e9 / (TENSOR * 4)))
    state = {f"layer{i}.weight": torch.rand(TENSOR) for i in range(count)}
    state["bn.running_mean"], state["bn.running_var"] = torch.zeros(64), torch.full((64,), float("inf"))
    torch.save(state, path)


def read(path: Path) -> None:
    """The least that looks at every byte."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def peak_of(path: Path) -> float:
    """MiB that the reading process held at most."""
    code = (
        "import sys; from trainvitals.diagnose.child import main; main(sys.argv[1:]);"
        "print(open('/proc/self/status').read(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def timed(work: Callable[[], object]) -> float:
    """Seconds by the clock on the wall."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.pth"
        write(path, options.gigabytes)
        plain, ours = [], []
        for _ in range(options.rounds):
            plain.append(timed(lambda: read(path)))
            ours.append(timed(lambda: diagnose(path)))
        peak = peak_of(path)
        size = path.stat().st_size / 1e9
    floor, took = statistics.median(plain), statistics.median(ours)
    print(f"{size:.1f} GB: read {floor:.1f} s, diagnosed in {took:.1f} s ({took / floor:.1f} x), peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
