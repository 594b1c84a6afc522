"""What the promise of delivery comes to, counted: a database read directly, beside what the trainers wrote down.

The database is opened as any program could, not through the server's own store, so that a fault of the store does not
hide itself.
"""

import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ledger import Producer, Record
from stored_frames import stored_frames
from trainvitals import wire

UNHELD = "no longer held by the trainer"  # what the server says of numbers that a hello passes over


@dataclass
class Audit:
    """Records acknowledged, stored, lost (neither stored nor covered), stored more than once; records in gaps, and set
    aside; and every breach of an invariant, in words."""

    acked: int = 0
    stored: int = 0
    lost: int = 0
    duplicated: int = 0
    gaps: int = 0
    quarantined: int = 0
    breaches: list[str] = field(default_factory=list)

    def add(self, other: "Audit") -> None:
        """Count another run in."""
        self.acked, self.stored, self.lost = (
            self.acked + other.acked,
            self.stored + other.stored,
            self.lost + other.lost,
        )
        self.duplicated, self.gaps = self.duplicated + other.duplicated, self.gaps + other.gaps
        self.quarantined += other.quarantined
        self.breaches += other.breaches

    def expect(self, holds: bool, otherwise: str) -> None:
        """Note a breach."""
        if not holds:
            self.breaches.append(otherwise)


@dataclass
class Kept:
    """What the database holds of one producer: frames as (layout, step) in the order in which they were stored,
    events and quarantined records by sequence number, layouts, and the sequence numbers that lie in gaps."""

    committed: int
    frames: list[tuple[int, int]]
    events: list[int]
    quarantined: list[int]
    layouts: set[int]
    gaps: list[tuple[int, wire.Gap]]

    def covered(self, own: Mapping[int, Record]) -> set[int]:
        """Sequence numbers within gaps."""
        return {number for seq, gap in self.gaps for number in _span(seq, gap, own.get(seq))}


def audit(database: Path, run: str, producers: Mapping[str, Producer], by: float = float("inf")) -> Audit:
    """What these producers of a run are known to have spooled until the time `by`, and what is stored of it now. What
    was spooled later may be on its way."""
    done = Audit()
    with closing(reading(database)) as connection:
        verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
        done.expect(verdict == "ok", f"integrity_check: {verdict}")
        connection.execute("BEGIN")
        for name, told in producers.items():
            _compare(done, name, told, keep(connection, run, name), by)
    return done


def watermark(database: Path, run: str, producer: str) -> int:
    """Up to where the database has a producer's records."""
    with closing(reading(database)) as connection:
        return keep(connection, run, producer).committed


def producer_count(database: Path, run: str) -> int:
    """The producers of a run."""
    with closing(reading(database)) as connection:
        count: int = connection.execute("SELECT count(*) FROM producers WHERE run = ?", (run,)).fetchone()[0]
        return count


def reading(database: Path) -> sqlite3.Connection:
    """A connection that changes nothing."""
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=10)


def keep(connection: sqlite3.Connection, run: str, name: str) -> Kept:
    """What is kept of a producer; nothing, with a watermark of -1, where it is not known."""
    row = connection.execute("SELECT id, committed FROM producers WHERE run = ? AND producer = ?", (run, name))
    identity, committed = row.fetchone() or (-1, -1)
    events = connection.execute(
        "SELECT seq, type, record FROM events WHERE producer = ? AND seq >= 0 ORDER BY id", (identity,)
    ).fetchall()
    gaps = [(seq, wire.decode_record(record)) for seq, kind, record in events if kind == "gap"]
    return Kept(
        committed,
        list(stored_frames(connection, identity)),
        [seq for seq, _, _ in events],
        [seq for (seq,) in connection.execute("SELECT seq FROM quarantine WHERE producer = ?", (identity,))],
        {number for (number,) in connection.execute("SELECT layout FROM layouts WHERE producer = ?", (identity,))},
        [(seq, gap) for seq, gap in gaps if isinstance(gap, wire.Gap)],
    )


def _compare(done: Audit, name: str, told: Producer, kept: Kept, by: float) -> None:
    frames, events = Counter(kept.frames), Counter(kept.events)
    twice = sum(frames.values()) - len(frames) + sum(events.values()) - len(events)
    covered, aside = kept.covered(told.records), set(kept.quarantined)
    there = {seq for seq, record in told.records.items() if _is_there(seq, record, frames, events, kept.layouts)}
    due = max(told.acked, kept.committed, told.last_by(by))
    missing = {seq for seq in told.records if seq <= due} - there - covered - aside
    done.acked += told.acked + 1
    done.stored += len(there)
    done.lost += len(missing)
    done.duplicated += twice
    done.gaps += sum(gap.count for _, gap in kept.gaps)
    done.quarantined += len(aside)
    done.expect(told.acked <= kept.committed, f"{name}: {told.acked} was acked, the watermark is {kept.committed}")
    early = sorted(seq for seq in missing if seq <= max(told.acked, kept.committed))
    done.expect(not early, f"{name}: acked or below the watermark, but neither stored nor in a gap: {early[:10]}")
    done.expect(twice == 0, f"{name}: {twice} records are stored more than once")
    done.expect(_rises(kept.events), f"{name}: events are not stored in the order of their numbers")
    for layout in kept.layouts:
        steps = [step for one, step in kept.frames if one == layout]
        done.expect(_rises(steps), f"{name}: frames of layout {layout} are not stored in the order of their steps")


def _is_there(
    seq: int, record: Record, frames: Mapping[tuple[int, int], int], events: Mapping[int, int], layouts: set[int]
) -> bool:
    if record.tag == "frame":
        return (record.layout, record.step) in frames
    if record.tag == "layout":
        return record.layout in layouts
    return seq in events


def _span(seq: int, gap: wire.Gap, own: Record | None) -> range:
    """The numbers a stored gap stands for: those it names; none beside its own where the trainer recorded it of what
    never had a number; the `count` numbers that end with its own where the server found that nobody holds them; else,
    of a torn tail, those that begin with it."""
    if gap.through is not None:
        return range(seq, gap.through + 1)
    if own is not None and own.tag == "gap":
        return range(seq, seq + 1)
    return range(seq - gap.count + 1, seq + 1) if gap.reason == UNHELD else range(seq, seq + gap.count)


def _rises(numbers: list[int]) -> bool:
    return all(one < other for one, other in pairwise(numbers))
