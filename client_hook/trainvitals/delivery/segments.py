"""The files of a spool: how a record lies in them, and how what is damaged is stepped over.

A folder per producer, `<home>/spool/<run>/<producer>/`, holds

    identity        who wrote it; made last, so that a folder with one is whole
    lock            locked by the living owner, see `lock.py`
    watermark       the last number a server committed, in decimal; may be a little old
    NNN.seg         segments of about 8 MiB, named by the first sequence number in them
    layouts         what frames are read by, see `descriptions.py`
    quarantine      records that the server refused for good, see `quarantine.py`
    journal         commands that were taken, see `control/desk.py`
    batch-*.pt      failing batches, see `origin/batches.py`

A segment is a row of frames: length and crc32 (u32, little-endian), sequence number (u64), payload. The checksum covers
sequence number and payload. Numbers rise; one is missing only behind a gap that stands for it (`wire.Gap.through`) and
where the disk lost something.
"""

import glob
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainvitals import wire

HEAD = struct.Struct("<IIQ")
SEGMENT_BYTES = 8 << 20


def frame(seq: int, payload: bytes) -> bytes:
    """One record as it lies in a segment."""
    tail = seq.to_bytes(8, "little") + payload
    return len(payload).to_bytes(4, "little") + zlib.crc32(tail).to_bytes(4, "little") + tail


def segment_path(spool: Path, first: int) -> Path:
    """Where the segment that begins with sequence number `first` lies."""
    return spool / f"{first:020d}.seg"


def starts(spool: Path) -> list[int]:
    """The first numbers of the segments there are, rising."""
    return sorted(int(path.stem) for path in find(spool, "*.seg") if path.stem.isdecimal())


def find(directory: Path, pattern: str) -> list[Path]:
    """What there is in a directory in which others make and remove theirs meanwhile; a folder that vanishes under the
    search is passed over, at which `Path.glob` raises before Python 3.13."""
    return [directory / name for name in glob.iglob(pattern, root_dir=directory, include_hidden=True)]


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """os.write until everything is written."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def parse(data: bytes, place: int) -> tuple[int, bytes] | None:
    """The frame that begins at `place`: number and payload; None where there is no whole one."""
    if place + HEAD.size > len(data):
        return None
    length, crc, seq = HEAD.unpack_from(data, place)
    end = place + HEAD.size + length
    if end > len(data) or zlib.crc32(memoryview(data)[place + 8 : end]) != crc:
        return None
    return seq, data[place + HEAD.size : end]


def resume(data: bytes, place: int, least: int, end: int) -> int | None:
    """Where the next whole frame at or behind `place` begins, with a number from `least` to `end` - 1; None where
    there is none. A frame is where its number can be read, so numbers are looked for first. Number 0 begins its
    segment and is never behind anything, but zeros are everywhere."""
    candidates: list[int] = []
    for shift in range(8):
        begin = place + 8 + shift
        words = np.frombuffer(data, "<u8", max(len(data) - begin, 0) // 8, min(begin, len(data)))
        hits = np.flatnonzero((words >= max(least, 1)) & (words < end))
        candidates += (hits * 8 + place + shift).tolist()
    return next((one for one in sorted(candidates) if parse(data, one) is not None), None)


class Damage(int):
    """Bytes of a segment that hold no whole frame."""


def walk(data: bytes, least: int, end: int = wire.MAX_SEQUENCE) -> Iterator[tuple[int, bytes] | Damage]:
    """The frames of a segment in order: number and payload, numbers rising from `least`; between them, and at the
    end, the bytes that are none."""
    place, following = 0, least
    while place < len(data):
        found = parse(data, place)
        if found is None or not following <= found[0] < end:
            after = resume(data, place + 1, following, end)
            yield Damage((len(data) if after is None else after) - place)
            if after is None:
                return
            place = after
            continue
        yield found
        following = (wire.spans(*found) or found[0]) + 1
        place += HEAD.size + len(found[1])


def scan(path: Path, least: int, end: int = wire.MAX_SEQUENCE) -> Iterator[tuple[int, bytes] | Damage]:
    """As `walk`, from the file, which is held in memory only from where it is damaged on. Raises OSError."""
    following, place = least, 0
    with path.open("rb") as file:
        while head := file.read(HEAD.size):
            length = HEAD.unpack(head)[0] if len(head) == HEAD.size else wire.MAX_SEQUENCE
            data = head + file.read(length) if length <= wire.MAX_MESSAGE_BYTES else b""
            found = parse(data, 0)
            if found is None or not following <= found[0] < end:
                file.seek(place)
                yield from walk(file.read(), following, end)
                return
            yield found
            following = (wire.spans(*found) or found[0]) + 1
            place += len(data)


def count_heads(data: bytes, following: int) -> int:
    """How many records a torn tail held, as far as the heads in it tell; at least one."""
    place = count = 0
    while place + HEAD.size <= len(data):
        length, _, seq = HEAD.unpack_from(data, place)
        if seq != following + count or length > wire.MAX_MESSAGE_BYTES:
            break
        count += 1
        place += HEAD.size + length
    return max(count, 1)
