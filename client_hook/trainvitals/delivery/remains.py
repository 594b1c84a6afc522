"""What a process left behind: a spool whose owner has ended, claimed, read through, and brought to its end.

Whoever claims it holds its lock, so that it is delivered by one at a time. A claimant that is killed leaves it to the
next, which finds the same: nothing is written to it but the watermark.

A lock says nothing of a copy, whose owner may live elsewhere. So what is said of the end has no number of its own: it
is sent as an epilogue (`wire.Batch.epilogue`), to which the owner's next record is preferred.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from trainvitals import wire
from trainvitals.delivery.ledger import Ledger, read_watermark
from trainvitals.delivery.lock import Lock, claim
from trainvitals.delivery.reading import SpoolReader
from trainvitals.delivery.segments import segment_path, starts
from trainvitals.delivery.survey import ORPHANED, Survey, journalled

FINAL = ("verified", "refused", "failed", "expired", "unknown")  # a command's last states
MOST_COMMANDS = 400  # of the newest, so that an epilogue is one batch


class Remains(Ledger):
    """A claimed spool. `survey` before it is delivered; `release` at the end, or `remove`.

    Once a server has said what it has, the epilogue follows behind all records: what was torn off, the commands whose
    outcome nobody knows, and that the process ended without a word."""

    def __init__(self, path: Path, identity: wire.Identity, lock: Lock) -> None:
        super().__init__(path, identity)
        self.committed = read_watermark(path)
        self.found = Survey()
        self.known = -1  # what the server had when it welcomed us
        self.settled = False
        self.ended = True
        self.epilogue: list[wire.Record] = []
        self._told = False  # the server has the epilogue
        self._lock = lock

    @property
    def delivered(self) -> bool:
        """Whether the server has everything, its end included."""
        return self.settled and super().delivered and (self._told or not self.epilogue)

    @property
    def lost(self) -> int:
        """Records that gaps count."""
        return self.found.lost + sum(one.count for one in self.epilogue if isinstance(one, wire.Gap))

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
        """A server says what it has. Where that is more than is left here, the disk has lost the rest; or the
        owner told it, and this is a copy."""
        super().welcome(committed)
        self.known = committed
        self.settled, self._told = True, False
        self.next = max(self.found.next, committed + 1)
        self.epilogue = list(epilogue(self, self.next))

    def acknowledge(self, seq: int) -> None:
        """As of a living spool. The numbers of an epilogue are not committed, and the watermark never says they were:
        the owner may yet give them to records."""
        self._told = self._told or seq >= self.next + len(self.epilogue) - 1
        super().acknowledge(min(seq, self.next - 1))

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


class _Reader(SpoolReader):
    """Behind the end of the files it reads the epilogue, once."""

    def __init__(self, remains: Remains) -> None:
        super().__init__(remains.path, lambda: remains.next)
        self._remains = remains
        self._over = False

    def seek(self, seq: int) -> None:
        """As of any spool; the epilogue comes again, too."""
        super().seek(seq)
        self._over = False

    def batch(self) -> wire.Batch | None:
        """The next records, then the epilogue; None behind both."""
        found = super().batch()
        if found is None and self._remains.epilogue and not self._over:
            self._over = True
            records = [wire.encode(one) for one in self._remains.epilogue]
            found = wire.Batch(first=self._remains.next, records=records, epilogue=True)
        return found


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
    if not following:
        return
    at_server = following - found.next  # of what is torn, what the server has all the same
    if found.torn and found.torn_records > at_server:
        reason = f"the last {found.torn} bytes of the spool were torn"
        yield wire.Gap(count=found.torn_records - at_server, reason=reason, since=moment, until=moment)
    for command in journalled(remains.path)[-MOST_COMMANDS:]:
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
