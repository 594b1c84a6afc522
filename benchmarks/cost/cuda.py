"""On a CUDA device: whether the hook ever waits for it, and what it adds to a step.

    python -m cost.cuda

While the hook runs, at the same places as the stopwatch in `child.py`, synchronising calls are errors
(`torch.cuda.set_sync_debug_mode`); such an error ends in the hook's guard, which logs it, and is counted here. The
added time is wall-clock time per step of blocks that end with a synchronisation. Prints one JSON object.
"""

import json
import logging
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import trainvitals
from cost.networks import CASES, Case

STEP = 0.1  # seconds: the step that the batch is chosen for
BLOCK = 20  # steps
ROUNDS = 10


class Faults(logging.Handler):
    """Counts what the hook's guard reports."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.messages.append(record.getMessage())


class Strict:
    """In place of a stopwatch: between `start` and `stop` synchronising raises."""

    def __init__(self, active: bool) -> None:
        self._active = active

    def start(self) -> None:
        """From here on."""
        if self._active:
            torch.cuda.set_sync_debug_mode("error")

    def stop(self) -> None:
        """Up to here."""
        if self._active:
            torch.cuda.set_sync_debug_mode("default")


class Training:
    """A network on the device, watched or not; `strict` counts synchronisations instead of being fast."""

    def __init__(self, case: Case, batch: int, folder: Path | None, strict: bool = False) -> None:
        self.model = case.build("cuda")
        self._optimizer = torch.optim.SGD(self.model.parameters(), 1e-3, momentum=0.9)
        self._x = torch.randn(batch, 3, 224, 224, device="cuda")
        self._y = torch.randint(0, 10, (batch,), device="cuda")
        self._strict = Strict(strict)
        first = next(self.model.parameters())
        first.register_post_accumulate_grad_hook(lambda _: self._strict.start())  # type: ignore[no-untyped-call]
        self._optimizer.register_step_post_hook(lambda *_: self._strict.start())
        self._watch = None
        if folder is not None:
            self._watch = trainvitals.watch(self.model, self._optimizer, mode="offline", directory=folder)
        self.model.register_forward_pre_hook(lambda *_: self._strict.stop())

    def step(self) -> None:
        """One training step."""
        self._optimizer.zero_grad()
        self._strict.start()
        logits = self.model(self._x)
        loss = nn.functional.cross_entropy(logits, self._y)
        loss.backward()  # type: ignore[no-untyped-call]
        self._strict.stop()
        self._optimizer.step()
        self._strict.start()
        if self._watch is not None:
            self._watch.step(loss=loss)
        self._strict.stop()

    def seconds(self, steps: int) -> float:
        """Per step, by the clock on the wall."""
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        torch.cuda.synchronize()
        return (time.perf_counter() - started) / steps

    def close(self) -> None:
        """Let go."""
        if self._watch is not None:
            self._watch.close()


def synchronisations(case: Case, batch: int, folder: Path) -> list[str]:
    """What the guard reported in steps in which synchronising is an error."""
    faults = Faults()
    log = logging.getLogger("trainvitals")
    log.addHandler(faults)
    training = Training(case, batch, folder, strict=True)
    for _ in range(3 * BLOCK):
        training.step()
    torch.cuda.set_sync_debug_mode("default")
    training.close()
    log.removeHandler(faults)
    return faults.messages


def batch_of(case: Case) -> int:
    """The batch with which a plain step takes about `STEP`."""
    training = Training(case, 64, None)
    training.seconds(BLOCK)
    return max(1, round(64 * STEP / training.seconds(BLOCK)))


def measure(case: Case) -> dict[str, object]:
    """Seconds per step, and the messages of the guard."""
    batch = batch_of(case)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        faults = synchronisations(case, batch, Path(one))
        plain, watched = Training(case, batch, None), Training(case, batch, Path(two))
        pairs = [(plain.seconds(BLOCK), watched.seconds(BLOCK)) for _ in range(ROUNDS + 1)][1:]
        watched.close()
    return {
        "device": torch.cuda.get_device_name(),
        "batch": batch,
        "step": statistics.median(a for a, _ in pairs),
        "added": statistics.median(b - a for a, b in pairs),
        "faults": faults,
    }


if __name__ == "__main__":
    print("RESULT " + json.dumps(measure(CASES["resnet50"])))
