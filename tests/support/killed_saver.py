"""A saver that is killed again and again: `python killed_saver.py DIRECTORY SEED`.

One warm process forks children that save checkpoints, every tensor of which holds one number. Some children are killed
at a random moment, others by the kernel at a given byte of the file they write (RLIMIT_FSIZE). After each death the
checkpoint and the best one must be whole. Prints one JSON object.
"""

import itertools
import json
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

import trainvitals

RANDOM, BYTES = 40, 24  # deaths of each kind


def main(directory: str, seed: str) -> None:
    """Kill, look, repeat."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    moments = random.Random(int(seed))
    path = Path(directory) / "x.pth"
    watch = trainvitals.watch(torch.nn.Linear(256, 512), mode="disabled")
    save(watch, path, 0, best=True)
    size, newest, wrong, unfinished = path.stat().st_size, 0, [], 0
    for death in range(RANDOM + BYTES):
        first = (death + 1) * 10_000
        if death < RANDOM:
            kill_at_random(watch, path, first, moments.uniform(0, 0.04))
        else:
            kill_at_byte(watch, path, first, int(size * (death - RANDOM) / BYTES), best=death % 2 == 0)
        unfinished += bool(leftovers(path))
        newest, fault = look(path, newest)
        wrong += [f"death {death}: {fault}"] if fault else []
    save(watch, path, 10_000_000, best=True)
    print(json.dumps({"wrong": wrong, "unfinished": unfinished, "left": leftovers(path)}))


def save(watch: trainvitals.Watch, path: Path, value: int, best: bool) -> None:
    """Every weight, and the note of it, is `value`."""
    with torch.no_grad():
        for parameter in watch.models[""].parameters():
            parameter.fill_(value)
    if not watch.save_checkpoint(path, extra={"value": value}, metric=value if best else None):
        os._exit(1)


def kill_at_random(watch: trainvitals.Watch, path: Path, first: int, after: float) -> None:
    """SIGKILL `after` seconds, in a child that does nothing but save."""
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(begins, b".")
        for value in itertools.count(first):
            save(watch, path, value, best=value % 3 == 0)
    os.read(begun, 1)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(begun)
    os.close(begins)


def kill_at_byte(watch: trainvitals.Watch, path: Path, value: int, at: int, best: bool) -> None:
    """The child dies in the write that would pass byte `at` of the file."""
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (at, at))
        save(watch, path, value, best)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"expected the child to die at byte {at}, got status {status}"


def look(path: Path, newest: int) -> tuple[int, str]:
    """The number in the checkpoint, and what is wrong with it or with the best one."""
    main, best = (contents(one) for one in (path, path.with_name("x_best.pth")))
    for name, state in (("newest", main), ("best", best)):
        tensors = state["model"].values()
        if any(not bool((tensor == state["value"]).all()) for tensor in tensors):
            return newest, f"the {name} is mixed"
    if main["value"] < newest:
        return newest, f"an older one came back: {main['value']} after {newest}"
    if best["metric"] < main["best_metric"]:
        return newest, f"best metric {main['best_metric']} is claimed, {best['metric']} was kept"
    return main["value"], ""


def contents(path: Path) -> dict[str, Any]:
    """What lies there; weights-only."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def leftovers(path: Path) -> list[str]:
    """Everything in the folder but the two checkpoints."""
    return sorted(one.name for one in path.parent.iterdir() if one.name not in ("x.pth", "x_best.pth"))


if __name__ == "__main__":
    main(*sys.argv[1:])
