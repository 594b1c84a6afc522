"""From the outbox into the spool. What the spool cannot take is counted and becomes a gap as soon as it can again."""

import contextlib
import logging
import time

from trainvitals import wire
from trainvitals.delivery.outbox import Outbox
from trainvitals.delivery.spool import Spool, SpoolFullError

log = logging.getLogger("trainvitals")

LIMIT = wire.MAX_MESSAGE_BYTES - (64 << 10)  # bytes of one record: it has to fit into a message


class Intake:
    """The background thread's hand on the spool."""

    def __init__(self, outbox: Outbox, spool: Spool) -> None:
        self._outbox = outbox
        self._spool = spool
        self._lost = 0
        self._lost_since = 0.0
        self._reason = ""
        self._layouts: list[wire.Layout] = []  # kept back: later frames cannot be read without them

    def run(self) -> bool:
        """Spool what is queued; whether anything was."""
        records = self._outbox.take()
        if not records:
            return False
        waiting: list[wire.Record] = [*self._layouts, *records]
        payloads = [data for record in waiting if (data := self._encode(record)) is not None]
        if self._lost:
            payloads.insert(0, wire.encode(self._gap()))
        try:
            self._spool.append(payloads)
        except (OSError, SpoolFullError) as error:
            self._keep_back(waiting, f"the spool could not be written ({error})")
            return False
        self._lost, self._lost_since, self._reason, self._layouts = 0, 0.0, "", []
        return True

    def sync(self) -> None:
        """Put what was written on the disk itself."""
        with contextlib.suppress(OSError):
            self._spool.sync()

    def _encode(self, record: wire.Record) -> bytes | None:
        """The record's bytes; None, counted and said, for what can never be sent."""
        try:
            data = wire.encode(record)
        except (TypeError, ValueError, OverflowError) as error:
            self._lose(1, f"a {type(record).__name__} could not be encoded: {error}")
            return None
        if len(data) > LIMIT:
            self._lose(1, f"a {type(record).__name__} had {len(data)} bytes, {LIMIT} are possible")
            return None
        return data

    def _keep_back(self, records: list[wire.Record], reason: str) -> None:
        self._layouts = [record for record in records if isinstance(record, wire.Layout)]
        for record in records:
            if isinstance(record, wire.Gap):
                self._lost += record.count  # they were counted as dropped when they were
            elif not isinstance(record, wire.Layout):
                self._lose(1, reason)

    def _lose(self, count: int, reason: str) -> None:
        if reason != self._reason:
            log.warning("records are being lost: %s", reason)
        self._lost += count
        self._outbox.dropped += count
        self._lost_since = self._lost_since or time.time()
        self._reason = reason

    def _gap(self) -> wire.Gap:
        return wire.Gap(count=self._lost, reason=self._reason, since=self._lost_since or time.time(), until=time.time())
