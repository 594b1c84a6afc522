"""Records that a server refused for good: kept beside the spool with the reason, framed as in a segment.

They are evidence of a mistake, in the trainer or in the server, so the file stays when the rest of a delivered spool
is removed. Where everything is refused, the first of it tells as much as all: past a limit records are only counted.
"""

import errno
import os
import time
from pathlib import Path

import msgspec

from trainvitals.delivery.segments import frame, walk, write_all

NAME = "quarantine"
LIMIT_BYTES = 8 << 20  # as much as a segment


class Aside(msgspec.Struct, frozen=True, array_like=True):
    """One record's bytes, why it was refused, and when (Unix seconds)."""

    reason: str
    time: float
    record: bytes


def set_aside(folder: Path, seq: int, reason: str, record: bytes) -> None:
    """Add record `seq`. Raises OSError, also where the file is full."""
    data = frame(seq, msgspec.msgpack.encode(Aside(reason, time.time(), record)))
    descriptor = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size + len(data) > LIMIT_BYTES:
            raise OSError(errno.EFBIG, f"expected at most {LIMIT_BYTES} bytes of refused records, got more")
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(folder: Path) -> list[tuple[int, Aside]]:
    """What was set aside, by sequence number; nothing where there is no such file."""
    try:
        data = (folder / NAME).read_bytes()
    except OSError:
        return []
    rows = [row for row in walk(data, 0) if isinstance(row, tuple)]
    return [(seq, msgspec.msgpack.decode(payload, type=Aside)) for seq, payload in rows]
