"""How many points per second go from trainers' sockets to the disk, and how many trainers one server holds.

    python benchmarks/ingest.py [few|large|many|peers ...] [--seconds 60] [--write docs/ingest.md]

- `few`: 4 trainers, batches of 16 steps x 400 values, as fast as they are acked; `large`: the largest batches.
- `many`: 1,000 trainers, one step of 400 values per second each; all connect at the same moment.
- `peers`: the same values through raw SQLite (the limit, and a row per value), TensorBoard, trackio and wandb offline.

During `few`, `large` and `many` a page follows one of the runs, and somebody asks `/healthz` twice a second. The load
runs in processes of its own (`load/`), on the same cores. Peers that are not installed (extra `bench`) are named as
not measured.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import shlex
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from load import report
from load.peers import PEERS
from load.serving import Server, serving

HERE = Path(__file__).resolve().parent
WIDTH = 400
PACKAGES = ("numpy", "websockets", "uvicorn", "torch", "wandb", "tensorboard", "trackio")
PEER_SECONDS = 600.0
EXTRA = 20.0  # seconds that a load may take beyond what it was told


class Way(NamedTuple):
    """One load: how many trainers, in how many processes, steps per batch (0: paced), seconds to settle."""

    trainers: int
    processes: int
    batch: int
    settle: float


WAYS = {
    "few": Way(4, 1, 16, 3.0),
    "large": Way(4, 1, 150, 3.0),  # 150 x 1.7 kB is just below the limit of 256 KiB
    "many": Way(1000, 2, 0, 10.0),
}


class Child:
    """A process of the load, and what it found."""

    def __init__(self, folder: Path, part: str, *arguments: str) -> None:
        self._out = folder / f"{part}-{time.monotonic_ns()}.json"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
        command = [sys.executable, "-m", f"load.{part}", *arguments, "--out", str(self._out)]
        self._process = subprocess.Popen(command, env=environment)

    def result(self, seconds: float) -> dict[str, Any]:
        """Wait for it. Raises CalledProcessError or TimeoutExpired."""
        if code := self._process.wait(seconds):
            raise subprocess.CalledProcessError(code, self._process.args)
        found: dict[str, Any] = json.loads(self._out.read_text())
        return found

    def end(self) -> None:
        """Make sure that it is over."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def children(made: Sequence[Child]) -> Iterator[Sequence[Child]]:
    """End what is left of them, whatever happens."""
    try:
        yield made
    finally:
        for child in made:
            child.end()


def measure(way: Way, seconds: float) -> dict[str, Any]:
    """One load on a fresh server."""
    with serving() as server, tempfile.TemporaryDirectory() as name:
        folder, span = Path(name), way.settle + seconds
        address, share = server.url.split("//")[1], way.trainers // way.processes
        page = Child(folder, "browser", server.url, server.token("view"), "--seconds", str(span + 5))
        load = [
            Child(folder, "trainers", address, server.token("ingest"), "--trainers", str(share), "--first",
                  str(i * share), "--batch", str(way.batch), "--seconds", str(seconds), "--settle", str(way.settle))
            for i in range(way.processes)
        ]  # fmt: skip
        with children([page, *load]):
            used = watch(server, way, load, seconds)
            told = [child.result(span + 120 + EXTRA) for child in load]
            used["disk"] = server.size()
            return figures(way, told, page.result(span + EXTRA), used)


def watch(server: Server, way: Way, load: Sequence[Child], seconds: float) -> dict[str, Any]:
    """What the server uses while the load is steady: CPU seconds between two moments, and memory after them."""
    began = time.time()
    time.sleep(way.settle + 4.0)  # the load's processes have come up
    first, cpu = time.time(), server.cpu()
    time.sleep(max(seconds - 6.0, 2.0))
    last, used = time.time(), server.cpu() - cpu
    return {
        "from": first,
        "to": last,
        "cpu": used,
        "rss": server.memory("VmRSS"),
        "peak": server.memory(),
        "began": began,
    }


def figures(way: Way, told: Sequence[dict[str, Any]], seen: dict[str, Any], used: dict[str, Any]) -> dict[str, Any]:
    """What is made of it."""
    acks = np.array([ack for one in told for ack in one["acks"]])
    steady = acks[(acks[:, 0] >= used["from"]) & (acks[:, 0] + acks[:, 1] <= used["to"])]
    steps = len(steady) * max(way.batch, 1)
    span = used["to"] - used["from"]
    early = acks[acks[:, 0] < used["from"]]
    return {
        "points_per_s": steps * WIDTH / span,
        "steps_per_s": steps / span,
        "ack": spread(steady[:, 1]),
        "ack_early": spread(early[:, 1]),
        "welcome": spread(np.array([one for each in told for one in each["welcomes"]])),
        "cpu_share": used["cpu"] / span,
        "cpu_per_million": used["cpu"] / max(steps * WIDTH, 1) * 1e6,
        "cpu_per_thousand_steps": used["cpu"] / max(steps, 1) * 1e3,
        "rss": used["rss"],
        "peak": used["peak"],
        "bytes_per_point": used["disk"] / max(sum(one["acked"] for one in told) * WIDTH, 1),
        "live": spread(within(seen["frames"], used)),
        "live_frames": len(within(seen["frames"], used)) / span,
        "live_dropped": seen["dropped"],
        "healthz": spread(within(seen["healthz"], used)),
        "load_cpu": sum(one["cpu"] for one in told),
        "nacks": sum(one["nacks"] for one in told),
        "closed": [reason for one in told for reason in one["closed"]][:3],
        "closed_count": sum(len(one["closed"]) for one in told),
    }


def within(found: Sequence[Sequence[float]], used: dict[str, Any]) -> "np.ndarray[Any, Any]":
    """The durations of what began while the load was steady."""
    return np.array([took for at, took in found if used["from"] <= at <= used["to"]])


def spread(durations: "np.ndarray[Any, Any]") -> dict[str, float]:
    """Milliseconds: p50, p95, p99, max; empty where there is nothing."""
    if not len(durations):
        return {}
    names = {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    return {name: round(float(np.percentile(durations, at)) * 1e3, 1) for name, at in names.items()}


def compare(steps: int) -> dict[str, dict[str, Any]]:
    """Every peer that is installed."""
    found = {}
    for name, (title, _) in PEERS.items():
        with (
            tempfile.TemporaryDirectory() as folder,
            children([Child(Path(folder), "peers", name, "--steps", str(steps))]) as (child,),
        ):
            try:
                found[name] = child.result(PEER_SECONDS)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                print(f"*** {title}: NOT MEASURED: {error} ***", flush=True)
    return found


def machine() -> str:
    """Where it was measured."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    versions = []
    for name in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    load = os.getloadavg()[0]
    day = datetime.datetime.now(datetime.UTC).date()
    head = f"{model}, {os.cpu_count()} cores, load average {load:.1f} when it began; SQLite {sqlite3.sqlite_version}"
    return f"{head}; Python {platform.python_version()}, {', '.join(versions)}; {day}."


def tell(where: str, found: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> str:
    """The document."""
    parts = [
        ("Goals", report.goals(found)),
        ("Speed", report.loads(found)),
        ("What the server uses", report.uses(found)),
    ]
    if "many" in found:
        parts.append(("All at once", report.storm(found["many"])))
    if others:
        titles = {name: title for name, (title, _) in PEERS.items()}
        parts.append(("Beside the peers", report.peers(others, titles, found.get("few"))))
    command = shlex.join(["python", "benchmarks/ingest.py", *sys.argv[1:]])
    head = f"# How much one server takes in\n\nWritten by `{command}`; do not edit.\n{where}"
    return f"{head}\n\n{report.document([*parts, ('How it is measured', report.METHOD)])}\n"


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", choices=[*WAYS, "peers", []], help="default: all")
    parser.add_argument("--seconds", type=float, default=60.0, help="of steady load (default: %(default)g)")
    parser.add_argument("--steps", type=int, default=1000, help="that the peers are given (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as they come")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the document there")
    options = parser.parse_args()
    wanted, where = options.ways or [*WAYS, "peers"], machine()
    found = {}
    for name in (name for name in wanted if name in WAYS):
        found[name] = measure(WAYS[name], options.seconds)
        if options.json:
            print(name, json.dumps(found[name], indent=1), flush=True)
    others = compare(options.steps) if "peers" in wanted else {}
    text = tell(where, found, others)
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
