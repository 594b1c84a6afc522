"""What the server itself finds out about a run from what several ranks told, in layouts of its own beside those of rank
0's producer: stored, and shown to browsers, like frames of that trainer."""

from collections.abc import Iterable, Sequence

import numpy as np

from trainvitals import wire
from trainvitals_server.changes import Frame
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.store import frames, runs, series


def layout(tx: Transaction, leader: runs.Producer, number: int, declared: Sequence[wire.Series]) -> series.Layout:
    """The server's layout that goes with the trainer's of this number; made if need be."""
    found = series.layout(tx.connection, leader.id, series.OWN + number)
    if found is not None:
        return found
    rows = series.enter(tx.connection, leader.run, declared)
    tx.changes[leader.run].series += rows
    columns = np.array([row.id for row in rows], np.int64)
    return series.save(tx.connection, leader.id, series.OWN + number, columns, list(declared))


def store(tx: Transaction, books: Books, leader: runs.Producer, target: series.Layout, stretch: frames.Stretch) -> bool:
    """Store and show these frames; whether no newer process of this rank hides them."""
    frames.add(tx.connection, target.id, stretch)
    books.sheet(tx.connection, leader.id).steps[target.id] = int(stretch.steps[-1])
    newest = runs.newest_producer(tx.connection, leader.run, leader.rank)
    shown = newest is not None and newest.id == leader.id  # its other fields have moved on since `leader` was read
    if shown:
        tx.changes[leader.run].frames += _frames(target, stretch, leader.rank)
    return shown


def _frames(target: series.Layout, stretch: frames.Stretch, rank: int) -> Iterable[Frame]:
    bits = None if stretch.present is None else np.packbits(stretch.present, axis=1, bitorder="little")
    for row, (step, moment) in enumerate(zip(stretch.steps.tolist(), stretch.times.tolist(), strict=True)):
        values = stretch.values[row].astype("<f4").tobytes()
        yield Frame(
            target.id, target.columns, step, moment, rank, values, None if bits is None else bits[row].tobytes()
        )
