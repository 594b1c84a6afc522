"""A long run of many layers, put straight into the database a server will open: no test waits for so many steps.

Every layer has a gradient norm and a largest running variance, each with a size and noise of its own; one layer has a
single NaN, another a single infinity, a third a spike. All other values are near their layer's usual one.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from trainvitals import wire
from trainvitals_server.changes import Changes
from trainvitals_server.clock import Clock
from trainvitals_server.ingest import intake
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.ingest.writer import Writer
from trainvitals_server.store import runs
from trainvitals_server.store.database import Database

RUN = "long"
STATS = ((wire.PARAMETER, wire.GRAD_NORM), (wire.NORM, wire.VAR_MAX))
NAN, INF, SPIKE = (12_345, 400), (15_001, 401), (7_777, 402)  # step and layer, of the gradient norm
SPIKE_VALUE = 6e4
PER_BATCH = 50


def name(layer: int) -> str:
    """What a layer is called."""
    return f"stage{layer // 50}.block{layer % 50:02}.conv"


def fill(path: Path, steps: int, layers: int) -> None:
    """Make the database, with the run finished in it."""
    database, books = Database(path), Books()
    writer = Writer(database, lambda changes: None, books.forget, Clock())
    writer.start()
    identity = wire.Identity(run=RUN, producer="p-1", started=1.0, name="a long run")
    hello = wire.Hello(protocol=wire.PROTOCOL, identity=identity, first=0, next=0)
    who = writer.submit(partial(intake.enter, hello=hello)).result()
    seq = 0
    for records in _batches(steps, layers):
        writer.submit(partial(_take, books=books, who=who, batch=wire.Batch(first=seq, records=records))).result()
        seq += len(records)
    writer.close()
    database.close()


def _take(tx: Transaction, books: Books, who: runs.Producer, batch: wire.Batch) -> None:
    assert not intake.take(tx, books, who, batch).rejected
    tx.changes = Changes()  # nobody watches


def _batches(steps: int, layers: int) -> Iterator[list[bytes]]:
    columns = [wire.Series(0, "", wire.RUN, wire.LOSS, 0)]
    for layer in range(layers):
        columns += [wire.Series(len(columns) + at, name(layer), *stat, layer) for at, stat in enumerate(STATS)]
    pieces = range(0, len(columns), 500)
    yield [
        wire.encode(wire.Layout(id=1, offset=at, total=len(columns), series=columns[at : at + 500])) for at in pieces
    ]
    random = np.random.default_rng(0)
    size = np.exp(random.normal(size=len(columns))).astype(np.float32)
    for start in range(0, steps, PER_BATCH):
        block = size * (1 + 0.05 * random.standard_normal((min(PER_BATCH, steps - start), len(columns)), np.float32))
        for (step, layer), value in ((NAN, np.nan), (INF, np.inf), (SPIKE, SPIKE_VALUE)):
            if start <= step < start + len(block):
                block[step - start, 1 + layer * len(STATS)] = value
        yield [
            wire.encode(wire.Frame(layout=1, step=step, time=1.7e9 + 0.25 * step, values=row.astype("<f4").tobytes()))
            for step, row in enumerate(block, start)
        ]
    yield [wire.encode(wire.Lifecycle(step=steps - 1, time=1.7e9 + 0.25 * steps, state="finished"))]
