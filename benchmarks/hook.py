"""What watching costs, beside the least work that reads the same values, and beside the peers.

    python benchmarks/hook.py [--rounds 3] [--steps 4] [--only WAY ...] [--cuda] [--write docs/cost.md]

Each way is measured in a process of its own (`cost/child.py`), in which it alternates with the plain loop and the
floor. Peers that are not installed (extra `bench`) are named as not measured. Nothing here uses the network.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from cost import report
from cost.networks import CASES
from cost.peers import WAYS, is_installed

HERE = Path(__file__).resolve().parent
PACKAGES = ("torch", "numpy", "transformers", "wandb", "tensorboard", "trackio", "trainscope")
OFFLINE = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline", "WANDB_SILENT": "true", "OMP_NUM_THREADS": "1"}
MEMORY_RUNS = 5
PATIENCE = 30  # seconds for the server to answer

METHOD = """\
Every way is asked for the same, every step: the L2 norm of each parameter's gradient, minimum and maximum of each
BatchNorm's running mean and variance, and the loss. (wandb.watch reads histograms of gradients and no statistics;
trainscope and DebugUnderflowOverflow read what they read.) The floor is the least work that does so: one
`torch._foreach_norm`, segment reductions of the concatenated statistics, one copy to the host.

Each way runs in a process of its own with three copies of the network: plain, floor, and the way. Rounds of a few steps
alternate between them in changing order, so that a slow moment of the machine hits all three. All figures are CPU time,
with torch on one thread; medians over steps.

- *Training thread*: a stopwatch on the thread's own clock, running wherever the way can be at work: before the
  network's forward, around gradient hooks, from the last gradient to the return of `backward()`, from the end of the
  optimizer's own step to its return, and while the way is called. What it shows in the plain loop is subtracted. Where
  a way works inside forward or backward (those with ±), it is the median difference of whole steps instead, with about
  one standard error.
- *Other threads*: what the process's other threads have used, from the start of a round until they are at rest.
- *Helpers*: likewise, processes that the way has started; counted in ticks of 10 ms.
- *x floor*: beside the floor measured in the same process. *Process* is training thread plus other threads.
- *Memory*: the kernel's high-water mark of the resident set in 20 watched steps, after 210 others, less that in 20
  plain steps before, in one process. The package's code (some 5 MiB) was loaded before. Median of five processes,
  and the least and most of them: the allocator gives back now more, now less of some hundred MiB."""

LIMITS = """\
- They are of one machine, which other work may share. Differences of some per cent between two runs mean nothing.
- What is read every `health_every` (100) steps, norms of weights and moments, is not in a median; nor is the headroom
  of fp16 layers, which is sampled every 20 steps where fp16 is in use.
- A wait that uses no CPU would not show; the training thread of trainvitals never waits for disk or network.
- The first larger allocation after many small frees pays for the allocator's tidying, whoever makes it; the plain loop
  would have paid some of it itself. It counts against the floor and the ways alike.
- On a CPU the floor is a loop over tensors; trainvitals reduces small gradients of one shape together, which is how it
  can be below the floor where there are many.
- On a GPU the proportions are others."""


def run(part: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """What a part of `cost/` found. Raises CalledProcessError where it fails."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("TRAINVITALS_")}
    clean["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [clean.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", f"cost.{part}", *arguments],
        env={**clean, **OFFLINE, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    return found


def attempt(what: str, part: str, *arguments: str, **environment: str) -> dict[str, Any] | None:
    """The same; None, said loudly, where it fails: the other figures are worth having."""
    try:
        return run(part, *arguments, **environment)
    except subprocess.CalledProcessError as error:
        print(f"*** {what}: NOT MEASURED, it ended with {error.returncode} ***", flush=True)
        return None


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """A server on this machine, in a process of its own; yields its directory."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        command = [sys.executable, "-m", "trainvitals_server.cli", "serve", "--port", "0"]
        environment = {**os.environ, "TRAINVITALS_DIR": directory}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE
            while not (Path(directory) / "server.json").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("expected the server to start, it did not")
                time.sleep(0.1)
            yield directory
        finally:
            process.terminate()
            process.wait()


def compare(case: str, names: list[str], rounds: int, steps: int) -> dict[str, dict[str, Any]]:
    """Each of `names` on one network; printed as it comes."""
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        with contextlib.ExitStack() as stack:
            environment = {"TRAINVITALS_DIR": stack.enter_context(serving())} if name.endswith("online") else {}
            one = attempt(f"{CASES[case].title}, {name}", "child", case, name, str(rounds), str(steps), **environment)
        if one is None:
            continue
        found[name] = one
        print(
            f"{CASES[case].title:24} {name:24} thread {one['thread'] * 1e3:8.2f} ms"
            f"  floor {one['floor'] * 1e3:6.2f}  other threads {one['threads'] * 1e3:7.2f}"
            f"  whole-step difference {one['difference'] * 1e3:8.2f} ± {one['difference_error'] * 1e3:.2f}"
            f"  of {one['step'] * 1e3:.0f} ms",
            flush=True,
        )
    return found


def machine() -> str:
    """Processor, cores, versions, date."""
    model = next(
        (row.split(":", 1)[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row),
        platform.machine(),
    )
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    today = datetime.datetime.now(datetime.UTC).date()
    load = f"load average {os.getloadavg()[0]:.1f}"
    return f"{model}, {os.cpu_count()} cores, {load}; Python {platform.python_version()}, {versions}; {today}."


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", nargs="*", choices=list(WAYS), metavar="WAY", help="; ".join(WAYS))
    parser.add_argument("--cuda", action="store_true", help="also on a CUDA device")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables there")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    options = parse()
    wanted = [name for name in options.only or WAYS if name != "plain"]
    absent = [name for name in wanted if not is_installed(name)]
    for name in absent:
        print(f"*** {name}: NOT MEASURED, {WAYS[name].module} is not installed ***", flush=True)
    names = [name for name in wanted if name not in absent]
    if "floor" not in names:
        names.insert(0, "floor")
    cases = [case for case in ("resnet50", "many") if case != "resnet50" or is_installed("DebugUnderflowOverflow")]
    costs = {case: compare(case, names, options.rounds, options.steps) for case in cases}
    ours = "trainvitals, offline"
    grown = [costs["many"][ours]] if ours in costs["many"] else []
    memory = {}
    if ours in names:
        for case in ("3000", "10000"):
            grown += compare(case, [ours], options.rounds, 2).values()
        held = {CASES[case].title: memory_of(case) for case in cases}
        memory = {title: one for title, one in held.items() if one is not None}
    cuda = attempt("CUDA", "cuda") if options.cuda and torch.cuda.is_available() else None
    if options.cuda and cuda is None:
        print("*** CUDA: NOT MEASURED, there is no CUDA device ***", flush=True)
    text = document(costs, wanted, grown, memory, cuda)
    print(text)
    if options.write:
        options.write.write_text(text)


def memory_of(case: str) -> dict[str, Any] | None:
    """The median of several processes, and the range of them: the allocator's moods are as large as what is asked."""
    runs = [attempt(f"{CASES[case].title}, memory", "memory", case) for _ in range(MEMORY_RUNS)]
    found = [run for run in runs if run is not None]
    if not found:
        return None
    added = sorted(run["added"] for run in found)
    return {**found[0], "added": statistics.median(added), "least": added[0], "most": added[-1]}


def document(
    costs: dict[str, dict[str, dict[str, Any]]],
    wanted: list[str],
    grown: list[dict[str, Any]],
    memory: dict[str, dict[str, Any]],
    cuda: dict[str, Any] | None,
) -> str:
    """The figures, and how to read them."""
    sections = [
        "# What watching costs",
        f"Written by `{shlex.join(['python', *sys.argv])}`, which `make bench` calls; do not edit.\n{machine()}",
        "## Goals",
        report.goals(costs.get("resnet50", {}), costs["many"], grown, memory, cuda),
    ]
    for case, figures in costs.items():
        step = figures["floor"]["step"]
        one = CASES[case]
        sections += [
            f"## {one.title}",
            f"Batch {one.batch} at {one.size} x {one.size}; a plain step takes {step * 1e3:.0f} ms of CPU.",
            report.costs(figures, [name for name in wanted if name not in figures]),
        ]
    if grown:
        sections += ["## By the number of parameters", report.growth(grown)]
    if memory:
        sections += ["## Memory", report.memories(memory)]
    if cuda:
        sections += [
            "## CUDA",
            f"{cuda['device']}, ResNet-50, batch {cuda['batch']} at 224 x 224, a plain step of"
            f" {cuda['step'] * 1e3:.1f} ms:"
            f" {cuda['added'] * 1e6:.0f} µs added, {len(cuda['faults'])} synchronisations.",
        ]
    sections += ["## How it is measured", METHOD, "## What the figures do not say", LIMITS]
    return "\n\n".join(sections) + "\n"


if __name__ == "__main__":
    main()
