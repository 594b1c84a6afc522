"""A producer's own append-only log on the trainer's disk, the flight recorder: its writing end.

What is written is with the kernel at once, so that a SIGKILL loses nothing of it, and on the disk itself after `sync`.
How the files look is told in `segments.py`, what is kept for how long in `retention.py`.
"""

import os
from pathlib import Path

import msgspec

from trainvitals import wire
from trainvitals.delivery.ledger import Ledger
from trainvitals.delivery.lock import own
from trainvitals.delivery.retention import Retention
from trainvitals.delivery.segments import frame, segment_path, write_all
from trainvitals.delivery.session import ProtocolError
from trainvitals.home import write_private


class Spool(Ledger):
    """One thread owns it. `cap` bounds the bytes of all spools beside it, see `Retention`."""

    def __init__(self, path: Path, identity: wire.Identity, cap: int | None = None) -> None:
        super().__init__(path, identity)
        self.retention = Retention(path, cap)
        self.unsynced = 0  # failed syncs
        self.trouble = ""  # what the last of them said
        self._descriptor = -1
        self._segment = 0
        path.mkdir(mode=0o700, parents=True)
        self._lock = own(path / "lock")
        write_private(path / "identity", msgspec.msgpack.encode(identity))

    def append(self, payloads: list[bytes]) -> None:
        """Number and write `payloads`. Raises OSError or SpoolFullError, with nothing written that would be read."""
        data = bytearray()
        for i, payload in enumerate(payloads):
            data += frame(self.next + i, payload)
        sizes = self.retention.sizes
        self.retention.beside = self.descriptions.size
        self.retention.make_room(len(data), self.committed)
        self.first = min(sizes, default=self.next)
        if self._descriptor < 0 or sizes[self._segment] >= self.retention.segment_bytes:
            self._rotate()
        try:
            write_all(self._descriptor, data)
        except OSError:
            self._take_back(sizes[self._segment])
            raise
        sizes[self._segment] += len(data)
        self.descriptions.note(self.next, payloads)
        self.next += len(payloads)

    def welcome(self, committed: int) -> None:
        """A server says what it has. Raises ProtocolError where it claims what was never written: what is recorded next
        would be lost there."""
        if committed >= self.next:
            raise ProtocolError(f"expected a server that has at most record {self.next - 1}, got {committed}")
        super().welcome(committed)

    def sync(self) -> None:
        """Put what was written on the disk itself, and note what the server has. Where that fails, it is counted:
        what was written since the last time may be lost with the machine's power, whatever a later sync says, so what
        follows goes into another file."""
        self.note_watermark()
        if self._descriptor >= 0 and not self._synced(self._descriptor):
            self._let_go()

    def close(self) -> None:
        """Sync and close; a spool of which the server has everything is removed."""
        try:
            self._close_segment()
            if self.next and self.delivered:
                self.remove()
            else:
                self.note_watermark()
        finally:
            self._lock.close()

    def _rotate(self) -> None:
        if not (self.path / "identity").exists():  # somebody tidied up
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self.path / "identity", msgspec.msgpack.encode(self.identity))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        path = segment_path(self.path, self.next)
        if self.retention.sizes.get(self.next) == 0:  # nothing came of it
            path.unlink(missing_ok=True)
        opened = os.open(path, flags, 0o600)
        self._close_segment()
        self._descriptor, self._segment = opened, self.next
        self.retention.sizes[self.next] = 0

    def _take_back(self, size: int) -> None:
        """Half a write is cut off; where that fails too, it is left behind, and what follows goes into another file."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        """The number is forgotten before anything can fail: it may be another file's a moment later."""
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _close_segment(self) -> None:
        if self._descriptor >= 0:
            self._synced(self._descriptor)
            self._let_go()

    def _synced(self, descriptor: int) -> bool:
        try:
            getattr(os, "fdatasync", os.fsync)(descriptor)  # macOS has the second only
        except OSError as error:
            self.unsynced += 1
            self.trouble = str(error)
            return False
        return True
