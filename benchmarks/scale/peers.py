"""The same values through others: 400 series over as many steps as each can be waited for. Prints one JSON object.

python -m scale.peers NAME STEPS FOLDER
"""

import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scale.generated import values
from trainvitals_server.store.points import of_series

LAYERS = 100  # x 4 statistics


class Stored:
    """What storing cost: seconds, and a way to read one series back."""

    def __init__(self, seconds: float, read: Callable[[], int]) -> None:
        self.seconds = seconds
        self.read = read


def rows(steps: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Step and values of each frame."""
    step = 0
    for block in values(steps, LAYERS):
        for one in block:
            yield step, one
            step += 1


def ours(steps: int, folder: Path) -> Stored:
    """This store, compacted."""
    from scale import measured  # noqa: PLC0415  # what it needs is no business of the peers

    one = measured.Measured(folder, steps, LAYERS)
    seconds = one.store()
    one.sizes()  # folds the log into the file

    def read() -> int:
        with one.database.reading() as connection:
            points = of_series(connection, measured.RUN, 1)
            return sum(len(part[1]) for part in points)

    return Stored(seconds, read)


def table(steps: int, folder: Path) -> Stored:
    """A row per value in SQLite, one transaction per 30 steps, synchronous=FULL."""
    connection = sqlite3.connect(folder / "rows.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE points (series INTEGER, step INTEGER, value REAL, PRIMARY KEY (series, step)) WITHOUT ROWID"
    )
    began, step = time.perf_counter(), 0
    for block in values(steps, LAYERS):
        some = [
            (series, step + row, value) for row, one in enumerate(block.tolist()) for series, value in enumerate(one)
        ]
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO points VALUES (?, ?, ?)", some)
        connection.execute("COMMIT")
        step += len(block)
    seconds = time.perf_counter() - began
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Stored(
        seconds, lambda: len(connection.execute("SELECT step, value FROM points WHERE series = 7").fetchall())
    )


def tensorboard(steps: int, folder: Path) -> Stored:
    """Scalars by hand into an event file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415
    from tensorboard.compat.proto.event_pb2 import Event  # noqa: PLC0415
    from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: PLC0415
    from tensorboard.summary.writer.event_file_writer import EventFileWriter  # noqa: PLC0415

    writer = EventFileWriter(str(folder))
    began = time.perf_counter()
    for step, one in rows(steps):
        for series, value in enumerate(one.tolist()):
            summary = Summary(value=[Summary.Value(tag=f"series/{series}", simple_value=value)])
            writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))
    writer.close()

    def read() -> int:
        found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        found.Reload()
        return len(found.Scalars("series/7"))

    return Stored(time.perf_counter() - began, read)


def trackio(steps: int, folder: Path) -> Stored:
    """What `trackio.log` of a dict per step ends in: its storage, 30 steps at a time, read back."""
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio as tracker  # noqa: PLC0415
    from trackio.sqlite_storage import SQLiteStorage  # noqa: PLC0415

    names = [f"series/{series}" for series in range(LAYERS * 4)]
    began = time.perf_counter()
    some = []
    for step, one in rows(steps):
        some.append((step, dict(zip(names, one.tolist(), strict=True))))
        if len(some) == 30:
            SQLiteStorage.bulk_log("scale", "run", [one for _, one in some], steps=[at for at, _ in some])
            some = []
    if some:
        SQLiteStorage.bulk_log("scale", "run", [one for _, one in some], steps=[at for at, _ in some])
    del tracker
    return Stored(time.perf_counter() - began, lambda: len(SQLiteStorage.get_logs("scale", "run")))


WAYS: dict[str, Callable[[int, Path], Stored]] = {
    "trainvitals": ours,
    "a row per value": table,
    "TensorBoard": tensorboard,
    "trackio": trackio,
}


def main(name: str, steps: int, folder: Path) -> None:
    """Store, read one series, print."""
    stored = WAYS[name](steps, folder)
    began = time.perf_counter()
    count = stored.read()
    found: dict[str, Any] = {
        "points": steps * LAYERS * 4,
        "seconds": stored.seconds,
        "read": time.perf_counter() - began,
    }
    if count != steps:
        raise ValueError(f"expected {steps} points of one series, got {count}")
    found["bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # threads of the peers may wait for what is of no interest here


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
