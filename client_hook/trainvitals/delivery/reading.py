"""Reads a spool from any sequence number on, while it is being written, thinned or repaired."""

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from trainvitals import wire
from trainvitals.delivery.segments import HEAD, resume, segment_path, starts

DAMAGED = "the spool was damaged on the disk"


class SpoolReader:
    """It remembers its place in the file, so that following the tail costs only what is new.

    `end` tells the number behind the last record that is written. With it, what is missing before that number is known
    to be lost, and is read as a gap that stands for it; without it, the reader stops where nothing whole follows."""

    def __init__(self, path: Path, end: Callable[[], int] | None = None) -> None:
        self._path = path
        self._end = end
        self._file: BinaryIO | None = None
        self._next = 0
        self._spanned = False  # the record read last stands for several numbers

    def seek(self, seq: int) -> None:
        """The next record read is `seq`, or the one that stands for it, or the first one after it that exists."""
        self.close()
        self._next = seq

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def batch(self) -> wire.Batch | None:
        """The next consecutive records, within the limits of a batch; None when there are none yet."""
        records: list[bytes] = []
        room, first = wire.MAX_BATCH_BYTES, 0
        while len(records) < wire.MAX_BATCH_RECORDS:
            row = self._read(room if records else wire.MAX_MESSAGE_BYTES, first + len(records) if records else None)
            if row is None:
                break
            first = first if records else row[0]
            records.append(row[1])
            room -= len(row[1])
            if self._spanned:
                break
        return wire.Batch(first=first, records=records) if records else None

    def _read(self, room: int, expected: int | None) -> tuple[int, bytes] | None:
        """The next record if it is whole, fits in `room` bytes and, where `expected` is given, has that number."""
        while self._file is not None or self._open():
            assert self._file is not None  # noqa: S101 - the loop's condition
            place = self._file.tell()
            head = self._file.read(HEAD.size)
            length, crc, seq = HEAD.unpack(head) if len(head) == HEAD.size else (0, 0, -1)
            if room < length <= wire.MAX_MESSAGE_BYTES:
                self._file.seek(place)
                return None
            payload = self._file.read(length) if length <= wire.MAX_MESSAGE_BYTES else b""
            if seq < 0 or len(payload) < length or zlib.crc32(head[8:] + payload) != crc:
                self._file.seek(place)
                if not self._step_over(self._file, torn=bool(head)):
                    return self._lost()
                continue
            last = wire.spans(seq, payload)
            if (seq if last is None else last) < self._next:
                continue
            if seq > self._next and self._end is not None:
                self._file.seek(place)
                return self._gap(seq - 1)
            if expected not in (None, seq):
                self._file.seek(place)
                return None
            self._next = (seq if last is None else last) + 1
            self._spanned = last is not None
            return seq, payload
        return self._lost()

    def _open(self) -> bool:
        there = starts(self._path)
        begin = max((start for start in there if start <= self._next), default=min(there, default=None))
        if begin is None:
            return False
        try:
            self._file = segment_path(self._path, begin).open("rb")
        except FileNotFoundError:
            return False  # delivered and removed meanwhile
        return True

    def _step_over(self, file: BinaryIO, torn: bool) -> bool:
        """Go on behind what is not whole: in this file, or in the next one; False where nothing follows yet."""
        known = self._end is not None and self._next < self._end()
        if not torn and not known and not segment_path(self._path, self._next).exists():
            return False
        begins = starts(self._path)
        own = int(Path(file.name).stem)
        if torn and (known or own < max(begins, default=-1)):
            place = file.tell()
            end = self._end() if self._end is not None else wire.MAX_SEQUENCE
            after = resume(file.read(), 1, self._next, end)
            file.seek(place if after is None else place + after)
            if after is not None:
                return True
        return self._turn(file, begins)

    def _turn(self, file: BinaryIO, begins: list[int]) -> bool:
        """Take up the file that holds the next record, unless it is the one that has just ended."""
        now = max((start for start in begins if start <= self._next), default=-1)
        if now >= 0 and not _is(segment_path(self._path, now), file):  # the next one, or the same rewritten
            self.close()
            return True
        later = min((start for start in begins if start > self._next), default=None)
        if later is None or self._end is not None:
            return False
        self.seek(later)
        return True

    def _lost(self) -> tuple[int, bytes] | None:
        """What is missing up to the next segment, or to the end; None where nothing is."""
        if self._end is None or self._next >= self._end():
            return None
        later = [start for start in starts(self._path) if start > self._next]
        return self._gap(min([*later, self._end()]) - 1)

    def _gap(self, last: int) -> tuple[int, bytes]:
        first, count = self._next, last - self._next + 1
        moment = os.fstat(self._file.fileno()).st_mtime if self._file is not None else 0.0
        gap = wire.Gap(count=count, reason=DAMAGED, since=moment, until=moment, through=last)
        self._next, self._spanned = last + 1, True
        return first, wire.encode(gap)


def _is(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False
