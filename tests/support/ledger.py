"""What a watched training wrote down of itself (watched_training.py), read while it goes on or after its death."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple


class Step(NamedTuple):
    """One step: records queued so far, and the hook's CPU seconds, its longest call on the CPU and by the clock."""

    step: int
    queued: int
    cpu: float
    call: float
    wait: float
    time: float


class Record(NamedTuple):
    """What a sequence number holds: the record's tag, its step (or count, of a gap), its layout."""

    tag: str
    step: int
    layout: int


@dataclass
class Producer:
    """One producer's records by sequence number, the time each was spooled, and (sequence, time) of the answers."""

    records: dict[int, Record] = field(default_factory=dict)
    spooled: dict[int, float] = field(default_factory=dict)
    acks: list[tuple[int, float]] = field(default_factory=list)

    @property
    def last(self) -> int:
        """The newest sequence number; -1 before the first."""
        return max(self.records, default=-1)

    @property
    def acked(self) -> int:
        """The highest watermark that any server told."""
        return max((seq for seq, _ in self.acks), default=-1)

    def last_by(self, moment: float) -> int:
        """The newest sequence number that was spooled by then; -1 before the first."""
        return max((seq for seq, time in self.spooled.items() if time <= moment), default=-1)

    def acked_at(self, seq: int, after: float = 0.0) -> float | None:
        """When everything up to `seq` was known to be stored, at `after` or later."""
        return next((max(time, after) for one, time in self.acks if one >= seq), None)


class Hook(NamedTuple):
    """What the hook cost the training thread: median CPU seconds per step, the longest call on the CPU and by the
    clock, and the number of steps."""

    median: float
    call: float
    wait: float
    steps: int


class Ledger:
    """The diary of one process; `read` takes in what was added to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run = ""
        self.pid = 0
        self.steps: list[Step] = []
        self.producers: dict[str, Producer] = {}
        self.dropped = self.queued = 0  # told at the very end: records lost in the trainer, and records in all
        self._place = 0

    def read(self) -> "Ledger":
        """Take in every whole line that is new."""
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self._place)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._place += len(whole)
            for line in whole.splitlines():
                self._take(*json.loads(line))
        return self

    def _take(self, kind: str, *row: Any) -> None:
        if kind == "step":
            self.steps.append(Step(*row))
        elif kind == "spooled":
            name, first, records, time = row
            producer = self.producers.setdefault(name, Producer())
            for seq, record in enumerate(records, first):
                producer.records[seq] = Record(*record)
                producer.spooled[seq] = time
        elif kind == "acked":
            self.producers.setdefault(row[0], Producer()).acks.append((row[1], row[2]))
        elif kind == "run":
            self.run, self.pid = row[0], row[1]
        elif kind == "closed":
            self.dropped, self.queued = row[0], row[1]

    @property
    def only(self) -> Producer:
        """The producer, where there is one."""
        (producer,) = self.producers.values()
        return producer

    @property
    def spooled(self) -> int:
        """Records that the spools took, gaps aside."""
        return sum(one.tag != "gap" for producer in self.producers.values() for one in producer.records.values())

    def hook(self, begin: float = 0.0, end: float = float("inf"), warm: int = 20) -> Hook:
        """The hook's cost in the steps that ended in this time; the first `warm` of the run are no measure."""
        some = [one for one in self.steps[warm:] if begin <= one.time <= end]
        if not some:
            return Hook(float("nan"), float("nan"), float("nan"), 0)
        cpu, call, wait = (median(one.cpu for one in some), max(o.call for o in some), max(o.wait for o in some))
        return Hook(cpu, call, wait, len(some))
