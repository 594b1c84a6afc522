"""From the outbox into the spool. While the spool cannot be written, records wait in the outbox, whose bound then
decides; what it drops, and what can never be written, becomes a counted gap as soon as the disk heals."""

import logging
import time

from trainvitals import wire
from trainvitals.delivery.outbox import Outbox
from trainvitals.delivery.retention import SpoolFullError
from trainvitals.delivery.spool import Spool

log = logging.getLogger("trainvitals")

LIMIT = wire.MAX_MESSAGE_BYTES - (64 << 10)  # bytes of one record: it has to fit into a message


class Intake:
    """The background thread's hand on the spool."""

    def __init__(self, outbox: Outbox, spool: Spool) -> None:
        self.waiting = False  # the spool could not be written: come again
        self.urgent = False  # something was spooled since the last sync that must survive the machine
        self.step = 0  # newest step that was spooled
        self._outbox = outbox
        self._spool = spool
        self._lost = 0
        self._reason = ""
        self._unsynced = 0

    def run(self) -> bool:
        """Spool what is queued; whether anything was."""
        pairs = [(record, data) for record in self._outbox.take() if (data := self._encode(record)) is not None]
        if self._lost:
            now = time.time()
            gap = wire.Gap(count=self._lost, reason=self._reason, since=now, until=now)
            pairs.insert(0, (gap, wire.encode(gap)))
            self._lost = 0
        if not pairs:
            return False
        records = [record for record, _ in pairs]
        try:
            self._spool.append([data for _, data in pairs])
        except (OSError, SpoolFullError) as error:
            self._wait(records, f"the spool could not be written ({error})")
            return False
        self._heal()
        self.urgent |= any(map(is_urgent, records))
        self.step = max(
            [self.step, *(record.step for record in records if isinstance(record, wire.Frame | wire.Event))]
        )
        return True

    def sync(self) -> None:
        """Put what was written on the disk itself. What a failure means is said once, in the log and in the run."""
        self.urgent = False
        self._spool.sync()
        if self._spool.unsynced and not self._unsynced:
            last = self._spool.next - 1
            text = (
                f"the disk could not confirm a write ({self._spool.trouble}): a power cut may lose up to record {last}"
            )
            log.warning("%s", text)
            self._outbox.put(wire.Notice(step=self.step, time=time.time(), code="unsynced", text=text))
        self._unsynced = self._spool.unsynced

    def give_up(self) -> None:
        """The end: what still waits is lost, and counted."""
        if left := sum(not isinstance(record, wire.Gap) for record in self._outbox.take()):  # gaps were counted
            self._outbox.dropped += left
            log.warning("%d records were lost: %s", left, self._outbox.trouble)

    def _encode(self, record: wire.Record) -> bytes | None:
        """The record's bytes; None, counted and said, for what can never be sent."""
        try:
            data = wire.encode(record)
        except (TypeError, ValueError, OverflowError) as error:
            self._lose(f"a {type(record).__name__} could not be encoded: {error}")
            return None
        if len(data) > LIMIT:
            self._lose(f"a {type(record).__name__} had {len(data)} bytes, {LIMIT} are possible")
            return None
        return data

    def _lose(self, reason: str) -> None:
        if reason != self._reason:
            log.warning("records are being lost: %s", reason)
        self._lost += 1
        self._outbox.dropped += 1
        self._reason = reason

    def _wait(self, records: list[wire.Record], trouble: str) -> None:
        if not self.waiting:
            log.warning("%s; records wait in memory, and past %d MiB they are lost", trouble, self._outbox.limit >> 20)
        self.waiting, self._outbox.trouble = True, trouble
        self._outbox.put_back(records)

    def _heal(self) -> None:
        if self.waiting:
            log.warning("the spool can be written again")
        self.waiting, self._outbox.trouble = False, ""


def is_urgent(record: wire.Record) -> bool:
    """Whether a record goes to the disk itself at once: what broke, what was repaired, what was commanded, how it
    ended. Frames and the rest follow within half a second."""
    match record:
        case wire.NonFinite() | wire.Culprit() | wire.Sanitized() | wire.CommandUpdate() | wire.Lifecycle():
            return True
        case wire.Checkpoint(outcome=outcome):
            return outcome != "saved"
        case wire.HealthCheck(healthy=healthy):
            return not healthy
    return False
