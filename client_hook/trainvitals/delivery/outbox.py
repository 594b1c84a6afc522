"""A bounded queue between the training thread and the background thread. Appending never waits."""

import threading
import time
from collections import deque
from collections.abc import Callable

from trainvitals import wire

LIMIT_BYTES = 4 << 20  # delivery rule 8


class Outbox:
    """Records on their way to the spool. Past the limit records are dropped, and a gap record says how many."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self._limit = limit
        self._lock = threading.RLock()  # a signal handler may put a record while this thread is putting one
        self._records: deque[wire.Record] = deque()
        self._bytes = 0
        self._lost = 0
        self._lost_since = 0.0
        self._lost_steps: tuple[int, int] | None = None
        self._told = False
        self.on_fresh: Callable[[], None] = lambda: None  # something is queued again; must not wait
        self.dropped = 0

    @property
    def busy(self) -> bool:
        """Whether this thread holds the lock."""
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # as threading.Condition asks it
        return owned

    def put(self, record: wire.Record) -> None:
        """Append; the lock is held for a few instructions on either side. Frames are dropped first: events may go
        to twice the limit."""
        size = len(record.values) + 64 if isinstance(record, wire.Frame) else 512
        with self._lock:
            if self._bytes + size > (self._limit if isinstance(record, wire.Frame) else 2 * self._limit):
                self._drop(record)
                return
            if self._lost:
                self._records.append(self._gap())
            self._records.append(record)
            self._bytes += size
            told, self._told = self._told, True
        if not told:
            self.on_fresh()

    def take(self) -> list[wire.Record]:
        """Everything queued, oldest first."""
        with self._lock:
            if self._lost:
                self._records.append(self._gap())
            records = list(self._records)
            self._records.clear()
            self._bytes = 0
            self._told = False
        return records

    def _drop(self, record: wire.Record) -> None:
        if not self._lost:
            self._lost_since = time.time()
        self._lost += 1
        self.dropped += 1
        if isinstance(record, wire.Frame):
            first = self._lost_steps[0] if self._lost_steps else record.step
            self._lost_steps = first, record.step

    def _gap(self) -> wire.Gap:
        first, last = self._lost_steps or (None, None)
        gap = wire.Gap(
            count=self._lost,
            reason="the queue before the spool was full",
            since=self._lost_since,
            until=time.time(),
            first_step=first,
            last_step=last,
        )
        self._lost, self._lost_steps = 0, None
        return gap
