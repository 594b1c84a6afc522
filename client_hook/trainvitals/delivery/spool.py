"""A producer's own append-only log on the trainer's disk: the flight recorder.

A folder per producer with `identity` (who wrote it) and segments of about 8 MiB named by the first sequence number in
them. A segment is a row of frames: length and crc32 (u32, little-endian), sequence number (u64), payload. The checksum
covers sequence number and payload, so that a torn tail is recognised and cut, never read.
"""

import contextlib
import os
import struct
import zlib
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import msgspec

from trainvitals import wire
from trainvitals.errors import TrainvitalsError
from trainvitals.home import write_private

HEAD = struct.Struct("<IIQ")
SEGMENT_BYTES = 8 << 20
CAP_BYTES = 256 << 20


class SpoolFullError(TrainvitalsError):
    """The spool holds as much unsent data as it may; nothing was written."""


class Spool:
    """The writing end. One thread owns it."""

    def __init__(self, path: Path, identity: wire.Identity, cap: int = CAP_BYTES) -> None:
        self.path = path
        self.identity = identity
        self.first = 0
        self.next = 0
        self.committed = -1
        self._cap = cap
        self._sizes: dict[int, int] = {}
        self._descriptor = -1
        path.mkdir(mode=0o700, parents=True)
        write_private(path / "identity", msgspec.msgpack.encode(identity))

    def append(self, payloads: list[bytes]) -> None:
        """Number and write `payloads`. Raises OSError or SpoolFullError, with nothing written that would be read."""
        data = bytearray()
        for i, payload in enumerate(payloads):
            data += frame(self.next + i, payload)
        if sum(self._sizes.values()) + len(data) > self._cap:
            raise SpoolFullError(f"spool: expected at most {self._cap} bytes of unsent records in {self.path}")
        if self._descriptor < 0 or self._sizes[self._segment] > SEGMENT_BYTES:
            self._rotate()
        try:
            write_all(self._descriptor, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._sizes[self._segment])
            raise
        self._sizes[self._segment] += len(data)
        self.next += len(payloads)

    def sync(self) -> None:
        """Put what was written on the disk itself."""
        if self._descriptor >= 0:
            os.fdatasync(self._descriptor)

    def acknowledge(self, seq: int) -> None:
        """The server has committed everything up to `seq`; whole segments below it are no longer needed."""
        self.committed = max(self.committed, seq)
        starts = sorted(self._sizes)
        for start, following in pairwise(starts):
            if following <= self.committed + 1:
                segment_path(self.path, start).unlink(missing_ok=True)
                del self._sizes[start]
                self.first = following

    def close(self) -> None:
        """Sync and close; a spool of which the server has everything is removed."""
        self._close_segment()
        if self.next and self.committed == self.next - 1:
            for start in self._sizes:
                segment_path(self.path, start).unlink(missing_ok=True)
            for path in (self.path / "identity", self.path / "journal"):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.path.rmdir()
                self.path.parent.rmdir()

    def _rotate(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        opened = os.open(segment_path(self.path, self.next), flags, 0o600)
        self._close_segment()
        self._descriptor, self._segment = opened, self.next
        self._sizes[self.next] = 0

    def _close_segment(self) -> None:
        """The number is forgotten before anything can fail: it may be another file's a moment later."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)


class SpoolReader:
    """Reads a spool from any sequence number on, while it is being written. It remembers its place in the file, so
    that following the tail costs only what is new."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._next = 0

    def seek(self, seq: int) -> None:
        """The next record read is `seq`, or the first one after it that exists."""
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
        return wire.Batch(first=first, records=records) if records else None

    def _read(self, room: int, expected: int | None) -> tuple[int, bytes] | None:
        """The next record if it is whole, fits in `room` bytes and, where `expected` is given, has that number."""
        while self._file is not None or self._open():
            assert self._file is not None  # noqa: S101 - the loop's condition
            place = self._file.tell()
            head = self._file.read(HEAD.size)
            if len(head) < HEAD.size:
                self._file.seek(place)
                if not self._following():
                    return None
                self.close()
                continue
            length, crc, seq = HEAD.unpack(head)
            if seq < self._next:
                self._file.seek(length, os.SEEK_CUR)
                continue
            payload = self._file.read(length) if length <= room and expected in (None, seq) else b""
            if len(payload) < length or zlib.crc32(head[8:] + payload) != crc:
                self._file.seek(place)
                return None
            self._next = seq + 1
            return seq, payload
        return None

    def _open(self) -> bool:
        starts = _segments(self._path)
        begin = max((start for start in starts if start <= self._next), default=min(starts, default=None))
        if begin is None:
            return False
        try:
            self._file = segment_path(self._path, begin).open("rb")
        except FileNotFoundError:
            return False  # acknowledged and removed meanwhile
        return True

    def _following(self) -> bool:
        """Whether the segment that begins with the record wanted next exists and is not the one that is open."""
        path = segment_path(self._path, self._next)
        return self._file is not None and path.exists() and Path(self._file.name) != path


def frame(seq: int, payload: bytes) -> bytes:
    """One record as it lies in a segment."""
    tail = seq.to_bytes(8, "little") + payload
    return len(payload).to_bytes(4, "little") + zlib.crc32(tail).to_bytes(4, "little") + tail


def _segments(spool: Path) -> list[int]:
    return sorted(int(path.stem) for path in spool.glob("*.seg"))


def segment_path(spool: Path, first: int) -> Path:
    """Where the segment that begins with sequence number `first` lies."""
    return spool / f"{first:020d}.seg"


def write_all(descriptor: int, data: bytearray) -> None:
    """os.write until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
