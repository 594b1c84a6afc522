"""What a process left behind: a spool whose owner has ended, claimed, read through, and brought to its end.

Whoever claims it holds its lock, so that it is delivered by one at a time. A claimant that is killed leaves it to the
next, which finds the same or more.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from trainvitals import wire
from trainvitals.delivery.ledger import Ledger, read_watermark
from trainvitals.delivery.lock import Lock, claim
from trainvitals.delivery.reading import SpoolReader
from trainvitals.delivery.segments import frame, segment_path, starts, write_all
from trainvitals.delivery.survey import ORPHANED, Survey, journalled

FINAL = ("verified", "refused", "failed", "expired", "unknown")  # a command's last states


class Remains(Ledger):
    """A claimed spool. `survey` before it is delivered; `release` at the end, or `remove`.

    Once a server has said what it has, the epilogue is added, numbered like any record: what was torn off, the commands
    whose outcome nobody knows, and that the process ended without a word."""

    def __init__(self, path: Path, identity: wire.Identity, lock: Lock) -> None:
        super().__init__(path, identity)
        self.committed = read_watermark(path)
        self.found = Survey()
        self.known = -1  # what the server had when it welcomed us
        self.settled = False
        self.ended = True
        self._lock = lock
        self.kept: list[bytes] = []  # the epilogue, where the disk takes nothing

    @property
    def delivered(self) -> bool:
        """Whether the server has everything, its end included."""
        return self.settled and super().delivered

    def survey(self) -> Iterator[int]:
        """Read it through; yields the bytes done so far, between segments."""
        done = 0
        self.descriptions.read()
        begins = starts(self.path)
        self.first = self.found.next = min(begins, default=0)
        for start in begins:
            path = segment_path(self.path, start)
            self.found.note(path, start)
            done += path.stat().st_size
            yield done
        self.next = self.found.next

    def welcome(self, committed: int) -> None:
        """A server says what it has. Where that is more than is left here, the disk has lost the rest."""
        super().welcome(committed)
        self.known = committed
        if not self.settled:
            self.settled = True
            self.next = max(self.next, committed + 1)
            self._conclude()

    def missing_layouts(self, committed: int) -> Iterator[wire.Layouts]:
        """As of a living spool; of a damaged one all of them, since nobody knows which records were lost."""
        return self.descriptions.before(self.next) if self.found.lost else super().missing_layouts(committed)

    def reader(self) -> SpoolReader:
        """A reader that reads the epilogue too."""
        return _Reader(self)

    def release(self) -> None:
        """Let go of what is not delivered."""
        self._lock.close()

    def remove(self) -> None:
        """Delete what was delivered; the quarantine stays."""
        super().remove()
        self._lock.close()

    def _conclude(self) -> None:
        """Add the epilogue, whole or not at all."""
        records = list(epilogue(self, self.found.next))
        heard = self.next == self.found.next + len(records)  # from another copy of this spool
        if not heard:
            records = list(epilogue(self, self.next))
        self.found.lost += sum(record.count for record in records if isinstance(record, wire.Gap))
        if heard or not records:
            return
        payloads = [wire.encode(record) for record in records]
        try:
            self._write(b"".join(frame(self.next + i, payload) for i, payload in enumerate(payloads)))
        except OSError:  # carried here on a medium that cannot be written
            if self.known >= self.found.next:
                return  # a server that has more than there is here has heard the end too
            self.kept = payloads
        self.next += len(payloads)

    def _write(self, data: bytes) -> None:
        moment = last_write(self.path)
        temporary = self.path / f".{self.next:020d}.end"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.utime(temporary, (moment, moment))  # for whoever looks when its process wrote last
        temporary.replace(segment_path(self.path, self.next))  # where one has this name, nothing in it is whole


class _Reader(SpoolReader):
    """Behind the end of the files it reads what could not be written there."""

    def __init__(self, remains: Remains) -> None:
        super().__init__(remains.path, self._files_end)
        self._remains = remains

    def batch(self) -> wire.Batch | None:
        """The next records, of the files and then of the epilogue; None behind both."""
        found = super().batch()
        rest = self._remains.kept[self._next - self._files_end() :] if found is None else []
        if rest:
            found = wire.Batch(first=self._next, records=rest)
            self._next += len(rest)
        return found

    def _files_end(self) -> int:
        return self._remains.next - len(self._remains.kept)


def take(folder: Path) -> Remains | None:
    """Claim a spool whose owner has ended; None where it lives or another one has claimed it. Raises OSError or
    `msgspec.DecodeError` where the folder holds no spool that can be read."""
    identity = msgspec.msgpack.decode((folder / "identity").read_bytes(), type=wire.Identity)
    lock = claim(folder, identity)
    if lock is None:
        return None
    if not (folder / "identity").exists():  # delivered by another one meanwhile
        lock.close()
        return None
    return Remains(folder, identity, lock)


def epilogue(remains: Remains, following: int) -> Iterator[wire.Record]:
    """What is to be said of a process that cannot say it any more, from number `following` on. Times are those of its
    last write."""
    found, moment = remains.found, last_write(remains.path)
    if not remains.next:
        return
    at_server = following - found.next  # of what is torn, what the server has all the same
    if found.torn and found.torn_records > at_server:
        reason = f"the last {found.torn} bytes of the spool were torn"
        yield wire.Gap(count=found.torn_records - at_server, reason=reason, since=moment, until=moment)
    for command in journalled(remains.path):
        state = found.commands.get(command, "delivered")
        if state not in FINAL:
            after = "it was applied and not verified" if state == "applied" else "it was taken and not yet applied"
            reason = f"the process ended when {after}, as far as is known; it will not be applied again"
            yield wire.CommandUpdate(step=found.step, time=moment, id=command, state="unknown", reason=reason)
    if not found.ended:
        who = remains.identity
        text = f"process {who.pid} on {who.host or 'an unknown host'} ended without a word"
        text += " (killed, out of memory, or the machine went down)"
        yield wire.Notice(step=found.step, time=moment, code=ORPHANED, text=text)


def last_write(folder: Path) -> float:
    """When the newest segment was written last, in Unix seconds."""
    begins = starts(folder)
    return segment_path(folder, begins[-1]).stat().st_mtime if begins else time.time()
