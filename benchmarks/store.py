"""How the store scales: a run of up to 1,000,000 steps x 500 layers x 4 statistics, stored and asked about.

    python benchmarks/store.py [--sizes 64 16 4] [--runs 1000] [--peers 200000] [--write docs/store.md]

A size is the share of the full run, 1/64 of its steps and so on; 1 is the whole. The run is generated as it goes and
goes through the real writer: intake, rules, frames and buckets, fsynced, with compaction and random questions beside
it; only the sockets are left out. Each size is a process of its own, with its files in a temporary folder that is
removed. Peers get as many points as `--peers` says; what is not installed (extra `bench`) is named as not measured.
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cost.report import table

STEPS, LAYERS = 1_000_000, 500
HERE = Path(__file__).resolve().parent
PACKAGES = ("numpy", "zstandard", "tensorboard", "trackio")
NEEDS = {"TensorBoard": "tensorboard", "trackio": "trackio"}
PEERS = {"trainvitals": 20, "a row per value": 5, "TensorBoard": 1, "trackio": 1}  # x what `--peers` says
GOALS = {  # seconds; the issue's own
    "one series, whole run": 0.05,
    "one series, any range": 0.05,
    "one series, some thousand steps": 0.05,
    "heatmap, whole run": 0.2,
    "heatmap, any range": 0.2,
    "heatmap, some thousand steps": 0.2,
    "state at a step": 0.05,
}

HOW = f"""\
Each size stores its share of {STEPS:,} steps x {LAYERS} layers x 4 statistics, every value float32 noise around a
drifting size of its own, one in a million NaN, infinite or a spike. Batches of 30 frames go through the one writer
with everything that it does (decoding, rules, frames, buckets, fsync). "writer" is the CPU of that thread for
ingest, "its jobs" what compaction and upkeep add to it, "background" the CPU of the thread that compresses. "first
and last tenth" compares the writer's CPU per frame at both ends of the run. Bytes are those of the database's pages
in use after compaction, divided by the points; "of the file" is all of it, after the upkeep, which looks every minute
as in a server, has given free pages back. Memory is the largest resident set of the whole process, questions included.

Questions are asked 40 times each about random series and steps, 500 points or columns, through the functions behind
`/api/runs/RUN/data`, `/heatmap` and `/at`. The load average says what else was going on on these cores: "worst,
CPU" is what the dearest of the questions needed of one core."""


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 16], help="shares of the full run: 64 is 1/64")
    parser.add_argument("--runs", type=int, default=1000, help="runs in the list")
    parser.add_argument("--peers", type=int, default=200_000, help="points for the slowest peers; 0: none")
    parser.add_argument("--write", type=Path, help="write the tables here")
    return parser.parse_args()


def child(module: str, *arguments: str) -> dict[str, Any] | None:
    """What a process of its own measured; None where it failed, which is said."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryDirectory(prefix="trainvitals-store-") as folder:
        command = [sys.executable, "-m", module, *arguments, folder]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode or not done.stdout:
        print(f"*** {module} {' '.join(arguments)}: NOT MEASURED, it ended with {done.returncode} ***", flush=True)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def costs(sizes: dict[int, dict[str, Any]]) -> str:
    """Storing, a row per size."""
    head = (
        "size",
        "points",
        "points/s",
        "writer, ns/point",
        "its jobs",
        "background",
        "first and last tenth, µs/frame",
        "longest job, ms",
        "bytes/point",
        "of the file",
        "memory, MB",
    )
    rows = []
    for share, one in sizes.items():
        points = one["points"]
        each = [f"{one[name] / points * 1e9:.0f}" for name in ("writer", "jobs", "compacting")]
        rows.append(
            [
                f"1/{share}" if share > 1 else "1",
                f"{points / 1e6:,.0f} M",
                f"{points / one['seconds'] / 1e6:.2f} M",
                *each,
                f"{one['first'] * 1e6:.0f}, {one['last'] * 1e6:.0f}",
                f"{one['longest'] * 1e3:.0f}",
                f"{one['used'] / points:.2f}",
                f"{one['file'] / points:.2f}",
                f"{one['memory'] / 1e6:.0f}",
            ]
        )
    return table(head, rows)


def answers(sizes: dict[int, dict[str, Any]]) -> str:
    """Questions, a row for each kind."""
    head = ["ms: median / worst / worst, CPU", "goal", *(f"1/{share}" for share in sizes)]
    names = list(dict.fromkeys(name for one in sizes.values() for name in one["asked"]))
    rows = []
    for name in sorted(names, key=lambda name: name.startswith("meanwhile")):
        goal = f"≤ {GOALS[name] * 1e3:.0f}" if name in GOALS else ""
        cells = [one["asked"].get(name) for one in sizes.values()]
        spelled = [
            " / ".join(f"{cell[key] * 1e3:.1f}" for key in ("median", "worst", "cpu")) if cell else "" for cell in cells
        ]
        rows.append([name, goal, *spelled])
    return table(head, rows)


def listing(found: dict[str, Any]) -> str:
    """The list of runs."""
    rows = [
        [title, f"{found[key]['seconds'] * 1e3:.0f}", f"{found[key]['cpu'] * 1e3:.0f}"]
        for key, title in (
            ("first", "nothing is known yet (a server finds out by itself after its start)"),
            ("again", "nothing has changed"),
            ("changed", "every run has gone on by a frame"),
            ("json", "as JSON text"),
        )
    ]
    return table(("list of runs, ms", f"{found['runs']:,} runs", "CPU"), rows)


def beside(points: int) -> str:
    """Peers on what they can follow."""
    rows = []
    for name, times in PEERS.items():
        if name in NEEDS and not is_installed(NEEDS[name]):
            rows.append([name, "**not measured**", "", "", ""])
            continue
        one = child("scale.peers", name, str(points * times // 400))
        if one is not None:
            rows.append(
                [
                    name,
                    f"{one['points'] / 1e6:.1f} M",
                    f"{one['points'] / one['seconds'] / 1e3:,.0f} k",
                    f"{one['bytes'] / one['points']:.1f}",
                    f"{one['read'] * 1e3:,.1f}",
                ]
            )
    return table(("400 series", "points", "points/s", "bytes/point", "read one series, ms"), rows)


def is_installed(name: str) -> bool:
    """Whether a package is there."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def machine() -> str:
    """Processor, cores, versions, date."""
    rows = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((row.split(":", 1)[1].strip() for row in rows if "model name" in row), platform.machine())
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES if is_installed(name))
    load = f"load average {os.getloadavg()[0]:.1f}"
    today = datetime.datetime.now(datetime.UTC).date()
    return f"{model}, {os.cpu_count()} cores, {load}; Python {platform.python_version()}, {versions}; {today}."


def main() -> None:
    """Measure, print, write."""
    options = parse()
    where = machine()
    sizes = {}
    for share in options.sizes:
        one = child("scale.measured", str(STEPS // share), str(LAYERS))
        if one is not None:
            sizes[share] = one
    sections = ["# How the store scales", f"Written by `{shlex.join(['python', *sys.argv])}`; do not edit.\n{where}"]
    if sizes:
        sections += ["## Storing", costs(sizes), "## Asking", answers(sizes)]
    if options.runs and (found := child("scale.listing", str(options.runs))):
        sections += ["## The list of runs", listing(found)]
    if options.peers:
        sections += ["## Beside others", beside(options.peers)]
    text = "\n\n".join([*sections, "## How it is measured", HOW]) + "\n"
    print(text)
    if options.write:
        options.write.write_text(text)


if __name__ == "__main__":
    main()
