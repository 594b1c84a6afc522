"""The layouts of a producer, kept apart from the records that told them.

Frames cannot be read without them, and the segment that holds them is the first to go: acknowledged, deleted for room,
and then wanted by a server that was restored from an old backup, or by a second one. They are therefore also written
to the file `layouts`, in the form of a segment, and sent ahead of the records where a server has
nothing behind the beginning of the spool, or the spool was damaged.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from trainvitals import wire
from trainvitals.delivery.segments import Damage, frame, scan, write_all

NAME = "layouts"


class Descriptions:
    """The pieces of every layout there was, as it was told last, with the number of the record that told it
    first. What could not be written yet is written with what comes next: it is a spare copy, for which no record
    waits."""

    def __init__(self, folder: Path) -> None:
        self.size = 0  # bytes of the file
        self._path = folder / NAME
        self._due = b""  # not yet written
        self._pieces: dict[tuple[int, int], tuple[int, bytes]] = {}  # by layout and offset

    def note(self, first: int, payloads: list[bytes]) -> None:
        """Keep the layouts among records that were written. Raises OSError."""
        rows = [(first + place, data) for place, data in enumerate(payloads) if wire.tag(data) == "layout"]
        if not rows:
            return
        for row in rows:
            self._take(*row)
        data = b"".join(frame(*row) for row in rows)
        self.size += len(data)
        self._due += data
        with suppress(OSError):
            self._write()

    def read(self) -> None:
        """Take in what a process left behind, as far as it is whole."""
        with suppress(OSError):
            for row in scan(self._path, 0):
                if not isinstance(row, Damage):
                    self._take(*row)

    def before(self, seq: int) -> Iterator[wire.Layouts]:
        """The layouts told by records before number `seq`, in messages of moderate length."""
        records: list[bytes] = []
        for _, payload in sorted(row for row in self._pieces.values() if row[0] < seq):
            size = sum(map(len, records)) + len(payload)
            if records and (size > wire.MAX_BATCH_BYTES or len(records) == wire.MAX_BATCH_RECORDS):
                yield wire.Layouts(records=records)
                records = []
            records.append(payload)
        if records:
            yield wire.Layouts(records=records)

    def _write(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            write_all(descriptor, self._due)
            self._due = b""
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _take(self, seq: int, payload: bytes) -> None:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            record = wire.decode_record(payload)
            if isinstance(record, wire.Layout):
                first, _ = self._pieces.get((record.id, record.offset), (seq, b""))
                self._pieces[record.id, record.offset] = first, payload
