"""Measures one way beside nothing and the floor, in a process of its own; prints one JSON object.

    python -m cost.child CASE WAY ROUNDS STEPS

Three copies of the network are trained, one per way. Rounds alternate between them, in changing order. In each step
the stopwatch runs from the call of the network to the first line of its forward; around the gradient hook of each
parameter that carries one; from the last gradient to the return of `backward()`; while the way is called by hand; and
from the end of the optimizer's own step to its return. What it shows with nothing attached is subtracted. A round ends
with the background at rest, and what other threads and started processes have used in it counts for the way.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cost.networks import CASES, Case
from cost.peers import WAYS, Way
from cost.stopwatch import Stopwatch, other_threads, started_processes

PAUSE = 0.1  # seconds between two looks whether the background is at rest
REST = 0.002  # CPU seconds in a pause that count as rest
PATIENCE = 30  # pauses


@dataclass
class Trained:
    """One copy of the network, its way, and what was measured, in seconds: per step `direct` (the stopwatch) and
    `whole` (the thread's CPU), per round `threads` and `processes`."""

    way: Way
    watch: Stopwatch
    direct: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    threads: list[float] = field(default_factory=list)
    processes: list[float] = field(default_factory=list)
    count: int = 0

    def step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        """One training step."""
        way, watch = self.way, self.watch
        began = time.thread_time()
        way.optimizer.zero_grad()
        watch.start()
        logits = way.model(x)
        watch.stop()
        loss = nn.functional.cross_entropy(logits, y)
        loss.backward()  # type: ignore[no-untyped-call]
        watch.stop()
        watch.start()
        way.read(self.count, loss)
        watch.stop()
        way.optimizer.step()
        watch.stop()
        watch.start()
        way.ended(self.count, loss)
        watch.stop()
        self.whole.append(time.thread_time() - began)
        self.direct.append(watch.take())
        self.count += 1

    def round(self, steps: int, x: torch.Tensor, y: torch.Tensor) -> None:
        """Some steps, and the background at rest again."""
        threads, processes = other_threads(), started_processes()
        for _ in range(steps):
            self.step(x, y)
        settle()
        self.threads.append((other_threads() - threads) / steps)
        self.processes.append((started_processes() - processes) / steps)

    def forget(self) -> None:
        """The first round warms up."""
        for kept in (self.direct, self.whole, self.threads, self.processes):
            kept.clear()


def settle() -> None:
    """Wait until the background has nothing left to do."""
    for _ in range(PATIENCE):
        before = other_threads() + started_processes()
        time.sleep(PAUSE)
        if other_threads() + started_processes() - before <= REST:
            return


def prepare(case: Case, name: str, folder: Path) -> Trained:
    """A copy of the network with the way attached, and the stopwatch at each place where a hook may run."""
    model = case.build()
    optimizer = torch.optim.SGD(model.parameters(), 1e-3, momentum=0.9)
    watch = Stopwatch()
    parameters = list(model.parameters())
    before = [_on_gradient(parameter, watch.start) for parameter in parameters]
    optimizer.register_step_post_hook(lambda *_: watch.start())
    way = WAYS[name](model, optimizer, folder)
    for parameter, handle in zip(parameters[1:], before[1:], strict=True):  # the first one's gradient comes last
        if len(parameter._post_accumulate_grad_hooks) > 1:
            _on_gradient(parameter, watch.stop)
        else:
            handle.remove()
    _at_forward(model, watch.stop)
    return Trained(way, watch)


def _on_gradient(parameter: Any, call: Callable[[], None]) -> torch.utils.hooks.RemovableHandle:
    register: Any = parameter.register_post_accumulate_grad_hook
    handle: torch.utils.hooks.RemovableHandle = register(lambda _: call())
    return handle


def _at_forward(model: nn.Module, call: Callable[[], None]) -> None:
    """Called last before the model's own forward."""
    model.register_forward_pre_hook(lambda *_: call())


def measure(case: Case, name: str, rounds: int, steps: int) -> dict[str, Any]:
    """Figures in seconds per step: what was added beside the plain loop."""
    with ExitStack() as stack:
        ways = {}
        for key in dict.fromkeys(("plain", "floor", name)):
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            ways[key] = prepare(case, key, Path(folder))
        x, y = case.data()
        order, chance = list(ways.values()), random.Random(0)  # noqa: S311
        for number in range(rounds + 1):
            chance.shuffle(order)
            for trained in order:
                trained.round(steps, x, y)
                if number == 0:
                    trained.forget()
        logits = ways[name].way.model(x)
        for trained in ways.values():
            trained.way.close()
    if not bool(torch.isfinite(logits).all()):
        raise RuntimeError(f"expected a network that stays finite, {case.title} did not")
    plain, floor, ours = ways["plain"], ways["floor"], ways[name]
    return {
        "step": statistics.median(plain.whole),
        "floor": _added(floor, plain, direct=True),
        "thread": _added(ours, plain, direct=ours.way.direct),
        "difference": _added(ours, plain, direct=False),
        "difference_error": _error([a - b for a, b in zip(ours.whole, plain.whole, strict=True)]),
        "threads": statistics.mean(ours.threads),
        "processes": statistics.mean(ours.processes) - statistics.mean(plain.processes),
        "direct": ours.way.direct,
        "steps": len(ours.whole),
        "parameters": len(list(ours.way.model.parameters())),
    }


def _added(one: Trained, plain: Trained, direct: bool) -> float:
    if direct:
        return statistics.median(one.direct) - statistics.median(plain.direct)
    return statistics.median(a - b for a, b in zip(one.whole, plain.whole, strict=True))


def _error(differences: list[float]) -> float:
    """Of the median, about: 1.25 standard errors of the mean."""
    return 1.25 * statistics.stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else float("inf")


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)  # the other core is the background's
    case, way, rounds, steps = sys.argv[1:]
    print("RESULT " + json.dumps(measure(CASES[case], way, int(rounds), int(steps))))


if __name__ == "__main__":
    main()
