"""Frames of one layout, and the events among them, gathered into a block; then stored and judged at once."""

from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trainvitals import wire
from trainvitals_server.changes import Frame
from trainvitals_server.ingest import counterparts
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.judging import judge_block
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.rules import Block
from trainvitals_server.store import frames as frame_rows
from trainvitals_server.store import runs, series


@dataclass
class Gathering:
    """One producer's frames on their way into a block. `layout` is None while there are only events."""

    producer: runs.Producer
    shown: bool  # whether browsers see these frames: not those that a newer producer hides
    sharded: bool = False  # whether any were parts of what all ranks add up to
    compared: bool = False  # whether any were told by all ranks to be compared
    layout: series.Layout | None = None
    frames: list[wire.Frame] = field(default_factory=list)
    events: list[wire.Event] = field(default_factory=list)

    def flush(self, tx: Transaction, books: Books) -> None:
        """Store and judge what was gathered, and begin anew."""
        if not self.frames and not self.events:
            return
        width = len(self.layout.columns) if self.layout else 0
        stretch = _stretch(self.frames, width)
        if self.layout is not None and self.frames:
            self._store(tx, books, self.layout, stretch)
        columns = cast(tuple[wire.Series, ...], self.layout.declared) if self.layout else ()  # whole, so none is None
        block = Block(columns=columns, events=tuple(self.events), **stretch._asdict())
        judge_block(tx, books, self.producer, block, newest=self.shown)
        self.layout, self.frames, self.events = None, [], []

    def _store(self, tx: Transaction, books: Books, layout: series.Layout, stretch: frame_rows.Stretch) -> None:
        sheet = books.sheet(tx.connection, self.producer.id)
        if layout.id not in sheet.shared:
            sheet.shared[layout.id] = tuple(counterparts.has(layout, one) for one in (wire.SHARD, wire.COMPARED))
        sharded, compared = sheet.shared[layout.id]
        self.sharded |= sharded
        self.compared |= compared
        frame_rows.add(tx.connection, layout.id, stretch)
        sheet.steps[layout.id] = int(stretch.steps[-1])
        first, last = self.frames[0], self.frames[-1]
        runs.extend(tx.connection, self.producer.id, (first.step, last.step), (first.time, last.time), len(self.frames))
        changed = tx.changes[self.producer.run]
        changed.stored += len(self.frames)
        if self.shown:
            rank = self.producer.rank
            changed.frames += [
                Frame(layout.id, layout.columns, one.step, one.time, rank, one.values, one.present)
                for one in self.frames
            ]


def _stretch(some: list[wire.Frame], width: int) -> frame_rows.Stretch:
    """The frames as arrays."""
    values = np.frombuffer(b"".join(one.values for one in some), "<f4").reshape(len(some), width)
    present: NDArray[np.bool_] | None = None
    if any(one.present is not None for one in some):
        full = np.packbits(np.ones(width, np.bool_), bitorder="little").tobytes()
        bitmaps = b"".join(one.present or full for one in some)
        bits = np.frombuffer(bitmaps, np.uint8).reshape(len(some), -1)
        present = np.unpackbits(bits, axis=1, count=width, bitorder="little").view(np.bool_)
    steps = np.array([one.step for one in some], np.int64)
    return frame_rows.Stretch(steps, np.array([one.time for one in some], np.float64), values, present)


def check_frame(record: wire.Frame, layout: series.Layout, last_step: int) -> None:
    """Raise ValueError unless the frame fits its layout and follows the one before."""
    width = len(layout.columns)
    if len(record.values) != 4 * width:
        raise ValueError(f"expected {4 * width} bytes of values for {width} columns, got {len(record.values)}")
    if record.present is not None and len(record.present) != -(-width // 8):
        raise ValueError(f"expected {-(-width // 8)} bytes of presence, got {len(record.present)}")
    if record.step <= last_step:
        raise ValueError(f"expected a step after {last_step}, got {record.step}")
