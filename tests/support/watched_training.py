"""A small watched training that is done harm to: `python watched_training.py --directory D --diary FILE ...`.

It writes down, line by line as JSON and with one `os.write` each, what the tests must know however it ends: the steps
it made and what the hook cost in each, the records its spool took, and the acknowledgements it received.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import torch

import trainvitals
from loops import batches, small_net
from planted_faults import plant
from trainvitals import wire
from trainvitals.delivery.outbox import Outbox
from trainvitals.delivery.spool import Spool
from trainvitals.monitor import Watch
from trainvitals.probes.guard import Guard

IDLE = 0.3  # seconds between two steps where nobody looks


class Diary:
    """The file in which everything is written down at once."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, *row: Any) -> None:
        """One line, with the time (monotonic seconds, the same for every process of this machine) at its end."""
        os.write(self._descriptor, msgspec.json.encode([*row, time.monotonic()]) + b"\n")


class Meter:
    """What the hook costs the training thread: the CPU seconds of a step, its longest single call on the CPU and by
    the clock. A call within a call counts once."""

    def __init__(self) -> None:
        self._depth = 0
        self.cpu = self.call = self.wait = 0.0

    def attach(self) -> None:
        """Measure every way into the hook."""
        Guard.run, Watch.step = self._around(Guard.run), self._around(Watch.step)  # type: ignore[method-assign]

    def _around(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, measured."""

        def measured(*given: Any, **named: Any) -> Any:
            self._depth += 1
            cpu, clock = time.thread_time(), time.perf_counter()
            try:
                return method(*given, **named)
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._note(time.thread_time() - cpu, time.perf_counter() - clock)

        return measured

    def _note(self, cpu: float, wait: float) -> None:
        self.cpu += cpu
        self.call, self.wait = max(self.call, cpu), max(self.wait, wait)

    def take(self) -> tuple[float, float, float]:
        """Since the last time."""
        taken = self.cpu, self.call, self.wait
        self.cpu = self.call = self.wait = 0.0
        return taken


def follow_delivery(diary: Diary, counted: list[int]) -> None:
    """Write down what is spooled and acknowledged; count what is queued."""
    put, append, acknowledge = Outbox.put, Spool.append, Spool.acknowledge

    def counting(self: Outbox, record: wire.Record) -> None:
        counted[0] += 1
        put(self, record)

    def appended(self: Spool, payloads: list[bytes], *rest: Any) -> Any:
        first = self.next
        result = append(self, payloads, *rest)
        diary.write("spooled", self.identity.producer, first, [describe(payload) for payload in payloads])
        return result

    def acknowledged(self: Spool, seq: int) -> Any:
        diary.write("acked", self.identity.producer, seq)
        return acknowledge(self, seq)

    Outbox.put, Spool.append, Spool.acknowledge = counting, appended, acknowledged  # type: ignore[method-assign]


def describe(payload: bytes) -> tuple[str, int, int]:
    """A record's tag, its step or count, and its layout."""
    record = wire.decode_record(payload)
    tag = str(record.__struct_config__.tag)
    if isinstance(record, wire.Gap):
        return tag, record.count, -1
    if isinstance(record, wire.Layout):
        return tag, -1, record.id
    return tag, record.step, record.layout if isinstance(record, wire.Frame) else -1


def main() -> None:
    """Train until the file `--stop` exists or `--steps` are made, then end as told."""
    options = arguments()
    for one in options.plant:
        plant(one)
    torch.set_num_threads(1)
    diary, meter, counted = Diary(options.diary), Meter(), [0]
    follow_delivery(diary, counted)
    meter.attach()
    model = small_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    watch = trainvitals.watch(
        model, optimizer, name="faults", directory=options.directory, server=options.server, run_id=options.run
    )
    diary.write("run", watch.run_id, os.getpid())
    for step, x in enumerate(batches(options.steps)):
        loss = ((model(x) - x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        watch.step(loss=loss)
        diary.write("step", step, counted[0], *meter.take())
        if options.stop is not None and options.stop.exists():
            break
        time.sleep(IDLE if options.idle is not None and options.idle.exists() else options.pause)
    finish(watch, options.end)
    diary.write("closed", watch.dropped, counted[0])


def finish(watch: Watch, way: str) -> None:
    """End the run in this way."""
    if way == "raise":
        raise ValueError("the disk is on fire")
    if way == "exit":
        sys.exit(3)
    if way == "close":
        watch.close()


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--diary", type=Path, required=True)
    parser.add_argument("--stop", type=Path)
    parser.add_argument("--idle", type=Path, help="while it exists, steps are far apart")
    parser.add_argument("--server")
    parser.add_argument("--run")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--pause", type=float, default=0.01)
    parser.add_argument("--end", choices=("close", "raise", "exit", "none"), default="close")
    parser.add_argument("--plant", action="append", default=[])
    return parser.parse_args()


if __name__ == "__main__":
    main()
