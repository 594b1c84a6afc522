"""A process that makes many runs, asks for their list, and prints one JSON object.

python -m scale.listing RUNS FOLDER
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainvitals import wire
from trainvitals_server.changes import Changes
from trainvitals_server.ingest import intake
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.jsontext import dumps
from trainvitals_server.runs.pulse import Pulse
from trainvitals_server.runs.story import Stories
from trainvitals_server.runs.summary import Summaries
from trainvitals_server.store import runs
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import transaction

LAYERS = 100
STATS = (wire.VAR_MAX, wire.VAR_MIN, wire.NONFINITE_CHANNELS, wire.NEGATIVE_CHANNELS)
SERIES = [
    wire.Series(place * 4 + which, f"layer{place}", wire.NORM, stat, place)
    for place in range(LAYERS)
    for which, stat in enumerate(STATS)
]
HEALTHY = np.tile(np.array([1, 1, 0, 0], "<f4"), LAYERS).tobytes()


def record(step: int) -> bytes:
    """One frame of a healthy network."""
    return wire.encode(wire.Frame(layout=1, step=step, time=1e6 + step, values=HEALTHY))


class Many:
    """Runs of 100 layers and a few steps, each with a validation."""

    def __init__(self, folder: Path, count: int) -> None:
        self.database = Database(folder / "many.db")
        self.connection = self.database.writer()
        self.connection.execute("PRAGMA synchronous = OFF")  # what it costs to make them is not the question
        self.producers = [self._make(place) for place in range(count)]
        with self.database.reading() as connection:
            pulse = Pulse(runs.unfinished(connection), time.monotonic())
        self.summaries = Summaries(self.database, pulse, Stories())

    def _make(self, place: int) -> runs.Producer:
        tx = Transaction(self.connection, 1e6)
        who = wire.Identity(run=f"run-{place}", producer=f"p-{place}", started=1.0, name=f"run-{place}")
        with transaction(self.connection):
            producer = intake.enter(tx, wire.Hello(protocol=wire.PROTOCOL, identity=who, first=0, next=0))
            layout = wire.Layout(id=1, offset=0, total=len(SERIES), series=SERIES)
            validation = wire.Validation(step=2, time=1e6, valid=8, errors=0, nonfinite=0, total=8)
            records = [wire.encode(layout), *map(record, range(4)), wire.encode(validation)]
            intake.take(tx, Books(), producer, wire.Batch(first=0, records=records))
        return producer

    def step(self) -> None:
        """Every run goes on by one frame."""
        changes = Changes()
        for producer in self.producers:
            tx = Transaction(self.connection, 1e6)
            with transaction(self.connection):
                intake.take(tx, Books(), producer, wire.Batch(first=6, records=[record(4)]))
            changes.add(tx.changes)
        self.summaries.note(changes)


def measured(ask: Callable[[], object]) -> dict[str, float]:
    """Seconds, and of CPU."""
    began, cpu = time.perf_counter(), time.thread_time()
    ask()
    return {"seconds": time.perf_counter() - began, "cpu": time.thread_time() - cpu}


def main(count: int, folder: Path) -> None:
    """Measure, and print."""
    many = Many(folder, count)
    found = {"runs": count, "first": measured(many.summaries.all), "again": measured(many.summaries.all)}
    many.step()
    found["changed"] = measured(many.summaries.all)
    found["json"] = measured(lambda: dumps({"runs": many.summaries.all()}))
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
