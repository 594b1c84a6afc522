"""Frames of one layout, and the events among them, gathered into a block; then stored and judged at once."""

from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from trainvitals import wire
from trainvitals_server.alerts import Alert, advance, supersede
from trainvitals_server.changes import Frame
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.rules import Block, Finding, judge
from trainvitals_server.runs import transitions
from trainvitals_server.store import alerts, events, rule_states, runs, series
from trainvitals_server.store import frames as frame_rows

MAX_LAYERS = 200  # with open alerts of one rule


@dataclass
class Gathering:
    """One producer's frames on their way into a block. `layout` is None while there are only events."""

    producer: runs.Producer
    shown: bool  # whether browsers see these frames: not those that a newer producer hides
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
        columns = tuple(cast(list[wire.Series], self.layout.declared)) if self.layout else ()
        block = Block(columns=columns, events=tuple(self.events), **stretch._asdict())
        _judge(tx, books, self.producer, block, newest=self.shown)
        self.layout, self.frames, self.events = None, [], []

    def _store(self, tx: Transaction, books: Books, layout: series.Layout, stretch: frame_rows.Stretch) -> None:
        frame_rows.add(tx.connection, layout.id, stretch)
        books.sheet(tx.connection, self.producer.id).steps[layout.id] = int(stretch.steps[-1])
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
        present = np.array([_bits(one.present, width) for one in some])
    steps = np.array([one.step for one in some], np.int64)
    return frame_rows.Stretch(steps, np.array([one.time for one in some], np.float64), values, present)


def _bits(bitmap: bytes | None, width: int) -> NDArray[np.bool_]:
    if bitmap is None:
        return np.ones(width, np.bool_)
    return np.unpackbits(np.frombuffer(bitmap, np.uint8), count=width, bitorder="little").astype(np.bool_)


def _judge(tx: Transaction, books: Books, producer: runs.Producer, block: Block, *, newest: bool) -> None:
    """Let the rules see a block; store what they remember, what they found, and which of them failed."""
    sheet = books.sheet(tx.connection, producer.id)
    states, findings, faults = judge(sheet.rules, block)
    rule_states.save(tx.connection, producer.id, sheet.rules, states)
    sheet.rules = states
    for finding in findings:
        before = alerts.get(tx.connection, producer.run, finding.rule, finding.layer, producer.rank)
        after = _follow(before, finding, producer, tx.now, newest=newest)
        if after is not None and after != before and (before is not None or _room(tx, after)):
            tx.changes[producer.run].alerts.append(alerts.save(tx.connection, after))
    step = int(block.steps[-1]) if len(block.steps) else block.events[-1].step
    for rule, error in faults:
        fault = wire.ProbeFault(step=step, time=tx.now, probe=f"rule {rule}", error=error, disabled=True)
        transitions.record_event(tx, producer, fault, seq=events.SERVER)


def _room(tx: Transaction, alert: Alert) -> bool:
    """Whether one more layer may alert. Where hundreds already do, another says nothing new: the run's verdict and its
    list of non-finite layers name it all the same."""
    return alerts.count_open(tx.connection, alert.run, alert.rank, alert.rule) < MAX_LAYERS


def _follow(
    before: Alert | None, finding: Finding, producer: runs.Producer, now: float, *, newest: bool
) -> Alert | None:
    """The alert after a finding. What an older process still tells of its past is kept, but it opens nothing, since
    nobody is left who could clear it, and closes nothing that is the newer one's."""
    if newest:
        return advance(before, finding, producer.run, now, producer.rank)
    if before is not None and before.status != "resolved":
        return before
    after = advance(before, finding, producer.run, now, producer.rank)
    return supersede(after, finding.text, now) if after is not None else None


def close_alerts(tx: Transaction, producer: runs.Producer) -> None:
    """Resolve what is open about a rank whose process has been followed by `producer`: the rules of the new one begin
    anew, and would never clear what they have not seen. A fresh break makes these alerts regress."""
    for alert in alerts.find_open(tx.connection, producer.run, producer.rank):
        text = f"Over, because another process resumed the run. Before: {alert.text}"
        after = supersede(alert, text, tx.now)
        tx.changes[producer.run].alerts.append(alerts.save(tx.connection, after))


def check_frame(record: wire.Frame, layout: series.Layout, last_step: int) -> None:
    """Raise ValueError unless the frame fits its layout and follows the one before."""
    width = len(layout.columns)
    if len(record.values) != 4 * width:
        raise ValueError(f"expected {4 * width} bytes of values for {width} columns, got {len(record.values)}")
    if record.present is not None and len(record.present) != -(-width // 8):
        raise ValueError(f"expected {-(-width // 8)} bytes of presence, got {len(record.present)}")
    if record.step <= last_step:
        raise ValueError(f"expected a step after {last_step}, got {record.step}")
