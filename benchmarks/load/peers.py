"""The same values through the peers, each in a process of its own.

    python -m load.peers PEER --steps 1000 --out FILE.json

`STEPS` steps of 400 values (`shapes.py`), written as that peer's users write them, then closed: the clock stops when
everything is on disk. None of them goes over a network; SQLite with packed frames is the limit of what ours stores.
"""

import argparse
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from load.shapes import columns, values

os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "HF_HUB_OFFLINE": "1"}
COMMIT_STEPS = 16  # per transaction, as many as a batch of `few` has

Rows = NDArray[np.float32]
Make = Callable[[Path], Callable[[Rows], None]]  # prepare, then write everything


def names() -> list[str]:
    """One for each column."""
    return ["/".join(filter(None, (kind, layer, stat))) for layer, kind, stat in columns()]


def database(folder: Path, synchronous: str, table: str) -> sqlite3.Connection:
    """An empty one."""
    connection = sqlite3.connect(folder / "peer.db", isolation_level=None)
    for statement in ("PRAGMA journal_mode = wal", f"PRAGMA synchronous = {synchronous}", table):
        connection.execute(statement)
    return connection


def commits(rows: Rows) -> Iterator[range]:
    """The steps of each transaction."""
    return (range(at, min(at + COMMIT_STEPS, len(rows))) for at in range(0, len(rows), COMMIT_STEPS))


def packed(folder: Path) -> Callable[[Rows], None]:
    """A row per step, all its values in one blob; on the disk at each commit."""
    connection = database(folder, "full", "CREATE TABLE frames (step INTEGER PRIMARY KEY, body BLOB)")

    def write(rows: Rows) -> None:
        for part in commits(rows):
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO frames VALUES (?, ?)", [(step, rows[step].tobytes()) for step in part])
            connection.execute("COMMIT")
        connection.close()

    return write


def single(folder: Path) -> Callable[[Rows], None]:
    """A row per value."""
    table = "CREATE TABLE points (series INT, step INT, value REAL, PRIMARY KEY (series, step)) WITHOUT ROWID"
    connection = database(folder, "full", table)

    def write(rows: Rows) -> None:
        for part in commits(rows):
            points = [(series, step, one) for step in part for series, one in enumerate(rows[step].tolist())]
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO points VALUES (?, ?, ?)", points)
            connection.execute("COMMIT")
        connection.close()

    return write


def tensorboard(folder: Path) -> Callable[[Rows], None]:
    """Scalars by hand."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # only this peer needs it

    writer: Any = SummaryWriter(str(folder))

    def write(rows: Rows) -> None:
        tags = names()
        for step, row in enumerate(rows.tolist()):
            for tag, value in zip(tags, row, strict=True):
                writer.add_scalar(tag, value, step)
        writer.close()

    return write


def wandb(folder: Path) -> Callable[[Rows], None]:
    """Offline, one dictionary per step."""
    import wandb as peer  # noqa: PLC0415

    run: Any = peer.init(project="load", dir=str(folder))

    def write(rows: Rows) -> None:
        keys = names()
        for row in rows.tolist():
            run.log(dict(zip(keys, row, strict=True)))
        run.finish()

    return write


def trackio(folder: Path) -> Callable[[Rows], None]:
    """Likewise."""
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio as peer  # noqa: PLC0415

    peer.init(project="load")

    def write(rows: Rows) -> None:
        keys = names()
        for row in rows.tolist():
            peer.log(dict(zip(keys, row, strict=True)))
        peer.finish()

    return write


PEERS: dict[str, tuple[str, Make]] = {
    "packed": ("SQLite, packed frames, synchronous=FULL (the limit)", packed),
    "single": ("SQLite, a row per value, synchronous=FULL", single),
    "wandb": ("wandb, offline", wandb),
    "trackio": ("trackio", trackio),
    "tensorboard": ("TensorBoard", tensorboard),
}


def main() -> None:
    """The process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = values(options.steps)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        write = PEERS[options.peer][1](Path(name))
        began, used = time.perf_counter(), time.process_time()
        write(rows)
        took, used = time.perf_counter() - began, time.process_time() - used
        size = sum(file.stat().st_size for file in Path(name).rglob("*") if file.is_file())
    found = {"points_per_s": rows.size / took, "cpu_per_million": used / rows.size * 1e6, "bytes": size / rows.size}
    options.out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
