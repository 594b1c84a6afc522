"""Replaces a segment by what of it is never thinned: everything but frames, at its own numbers. Runs of frames become
gaps that stand for them.

The new file is written beside the old one, synced and renamed over it: a process killed at any byte leaves the one or
the other, and a reader in the midst of the old file reads that to its end.
"""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path

import msgspec

from trainvitals import wire
from trainvitals.delivery.reading import DAMAGED
from trainvitals.delivery.segments import Damage, frame, scan, segment_path, write_all

Row = tuple[int, bytes]


def thin(spool: Path, start: int, following: int, reason: str) -> tuple[int, int]:
    """Thin the segment of records `start` to `following` - 1; returns its new size in bytes, and how many records it
    lost. Raises OSError."""
    lost = 0

    def counted(rows: Iterable[Row]) -> Iterator[Row]:
        nonlocal lost
        for seq, payload in rows:
            last = wire.spans(seq, payload)
            lost += 0 if last is None else last - seq + 1
            yield seq, payload

    rows = _thinned(_rows(spool, start, following), start, following, reason)
    return _replace(spool, start, counted(rows)), lost


def unite(spool: Path, begins: list[int], following: int) -> int:
    """Make one segment of several thinned ones that follow each other, with neighbouring gaps merged; returns its size
    in bytes. Raises OSError. Where the process is killed before the old ones are gone, they are passed over."""
    ends = [*begins[1:], following]
    rows = (row for start, end in zip(begins, ends, strict=True) for row in _rows(spool, start, end))
    size = _replace(spool, begins[0], merge(_thinned(rows, begins[0], following, "")))
    for start in begins[1:]:
        segment_path(spool, start).unlink(missing_ok=True)
    return size


def _rows(spool: Path, start: int, following: int) -> Iterator[Row]:
    return (row for row in scan(segment_path(spool, start), start, following) if not isinstance(row, Damage))


@dataclass
class Lost:
    """A run of frames that goes: from which number on, how many, when, and of which steps."""

    first: int
    count: int = 0
    since: float = inf
    until: float = -inf
    low: float = inf
    high: float = -inf

    def add(self, frame: wire.Frame) -> None:
        """One more."""
        self.count += 1
        self.since, self.until = min(self.since, frame.time), max(self.until, frame.time)
        self.low, self.high = min(self.low, frame.step), max(self.high, frame.step)

    def row(self, reason: str) -> Row:
        """The gap that stands for them."""
        gap = wire.Gap(
            count=self.count,
            reason=reason,
            since=self.since,
            until=self.until,
            first_step=int(self.low),
            last_step=int(self.high),
            through=self.first + self.count - 1,
        )
        return self.first, wire.encode(gap)


def _thinned(rows: Iterable[Row], start: int, following: int, reason: str) -> Iterator[Row]:
    """Rows without frames; gaps stand for frames and for what is missing."""
    lost, expected = Lost(start), start
    for seq, payload in rows:
        record = wire.decode_record(payload) if wire.tag(payload) == "frame" else None
        if lost.count and (record is None or seq > expected):
            yield lost.row(reason)
            lost = Lost(seq)
        if seq > expected:
            yield expected, wire.encode(_missing(expected, seq - 1))
        if isinstance(record, wire.Frame):
            lost = lost if lost.count else Lost(seq)
            lost.add(record)
        else:
            yield seq, payload
        last = None if record is not None else wire.spans(seq, payload)
        expected = (seq if last is None else last) + 1
    if lost.count:
        yield lost.row(reason)
    if expected < following:
        yield expected, wire.encode(_missing(expected, following - 1))


def _missing(first: int, through: int) -> wire.Gap:
    now = time.time()
    return wire.Gap(count=through - first + 1, reason=DAMAGED, since=now, until=now, through=through)


def merge(rows: Iterable[Row]) -> Iterator[Row]:
    """Neighbouring gaps that stand for numbers, as one where their reason is the same."""
    held: tuple[int, wire.Gap] | None = None
    for seq, payload in rows:
        gap = wire.decode_record(payload) if wire.spans(seq, payload) is not None else None
        if held is not None and isinstance(gap, wire.Gap) and gap.reason == held[1].reason:
            held = held[0], _joined(held[1], gap)
            continue
        if held is not None:
            yield held[0], wire.encode(held[1])
        held = (seq, gap) if isinstance(gap, wire.Gap) else None
        if held is None:
            yield seq, payload
    if held is not None:
        yield held[0], wire.encode(held[1])


def _joined(one: wire.Gap, other: wire.Gap) -> wire.Gap:
    steps = [step for step in (one.first_step, one.last_step, other.first_step, other.last_step) if step is not None]
    return msgspec.structs.replace(
        one,
        count=one.count + other.count,
        since=min(one.since, other.since),
        until=max(one.until, other.until),
        first_step=min(steps, default=None),
        last_step=max(steps, default=None),
        through=other.through,
    )


def _replace(spool: Path, start: int, rows: Iterable[Row]) -> int:
    temporary = spool / f".{start:020d}.thin"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    size = 0
    try:
        for seq, payload in rows:
            data = frame(seq, payload)
            write_all(descriptor, data)
            size += len(data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(segment_path(spool, start))
    return size
