"""How far a spool reaches, and how much of it a server has. What the living and the recovered spool have in common."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from trainvitals import wire
from trainvitals.delivery import descriptions, quarantine
from trainvitals.delivery.reading import SpoolReader
from trainvitals.delivery.segments import segment_path, starts
from trainvitals.home import write_private

log = logging.getLogger("trainvitals")

REMEMBERED = 4096  # refused records; one that is refused again later is set aside and counted twice


class Ledger:
    """Records `first` to `next` - 1 of one producer are held; the server has those up to `committed`."""

    def __init__(self, path: Path, identity: wire.Identity) -> None:
        self.path = path
        self.identity = identity
        self.first = 0
        self.next = 0
        self.committed = -1
        self.quarantined = 0
        self.ended = False  # its process has, and another one delivers
        self.descriptions = descriptions.Descriptions(path)
        self._noted = -1  # the watermark on the disk
        self._refused: dict[int, None] = {}  # the latest
        self._trouble = ""  # why a refused record could not be kept

    @property
    def delivered(self) -> bool:
        """Whether the server has everything."""
        return self.committed >= self.next - 1

    def reader(self) -> SpoolReader:
        """A reader that takes what is missing below `next` for lost."""
        return SpoolReader(self.path, end=lambda: self.next)

    def missing_layouts(self, committed: int) -> Iterator[wire.Layouts]:
        """What a server may need, beside the records that are held, when it has those up to `committed`: it counts
        as such what it lacks and is no longer held."""
        return self.descriptions.before(self.first if committed < self.first else 0)

    def welcome(self, committed: int) -> None:
        """A server says what it has: less than another one had, where it was restored from a backup."""
        self.committed = committed

    def acknowledge(self, seq: int) -> None:
        """The server has committed everything up to `seq`."""
        self.committed = max(self.committed, seq)

    def set_aside(self, seq: int, reason: str) -> None:
        """The server will never take record `seq`: keep it in the quarantine, once."""
        if seq in self._refused:
            return
        if not self._refused:
            log.warning("the server refused record %d for good: %s; it is kept in %s", seq, reason, self.path)
        self._refused[seq] = None
        if len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]
        self.quarantined += 1
        reader = self.reader()
        reader.seek(seq)
        batch = reader.batch()
        reader.close()
        try:
            quarantine.set_aside(self.path, seq, reason, batch.records[0] if batch is not None else b"")
        except OSError as error:
            if str(error) != self._trouble:  # else it is the same with thousands of records
                log.warning("record %d could not be kept in the quarantine: %s", seq, error)
            self._trouble = str(error)

    def note_watermark(self) -> None:
        """Write down what the server has, where it has changed. A lost one costs nothing but a repetition."""
        if self.committed != self._noted:
            with suppress(OSError):
                write_private(self.path / "watermark", str(self.committed).encode())
                self._noted = self.committed

    def remove(self) -> None:
        """Delete what was delivered, how it ended last. The quarantine and failing batches stay, as evidence, and so
        does their folder."""
        for start in starts(self.path):
            segment_path(self.path, start).unlink(missing_ok=True)
        for leftover in self.path.glob(".*"):  # of a write that was killed
            with suppress(OSError):
                leftover.unlink()
        for name in ("journal", "watermark", descriptions.NAME, "identity"):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):
            (self.path / "lock").unlink(missing_ok=True)
            self.path.rmdir()
            self.path.parent.rmdir()


def read_watermark(folder: Path) -> int:
    """What a server had of a spool at least; -1: nothing that is known."""
    try:
        return int((folder / "watermark").read_text())
    except (OSError, ValueError):
        return -1
