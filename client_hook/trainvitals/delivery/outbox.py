"""A bounded queue between the training thread and the background thread. Appending never waits."""

import threading
import time
from collections import deque
from collections.abc import Callable

from trainvitals import wire

LIMIT_BYTES = 4 << 20  # delivery rule 8
FULL = "the queue before the spool was full"


class Outbox:
    """Records on their way to the spool. Past the limit records are dropped, and a gap record says how many."""

    def __init__(self, limit: int = LIMIT_BYTES) -> None:
        self.limit = limit
        self._lock = threading.RLock()  # a signal handler may put a record while this thread is putting one
        self._records: deque[wire.Record] = deque()
        self._bytes = 0
        self._lost = 0
        self._lost_since = 0.0
        self._lost_steps: tuple[int, int] | None = None
        self._lost_why = ""
        self._told = False
        self.on_fresh: Callable[[], None] = lambda: None  # something is queued again; must not wait
        self.dropped = 0
        self.trouble = ""  # why nothing is taken out for good now

    @property
    def busy(self) -> bool:
        """Whether this thread holds the lock."""
        owned: bool = self._lock._is_owned()  # type: ignore[attr-defined]  # as threading.Condition asks it
        return owned

    def put(self, record: wire.Record) -> None:
        """Append; the lock is held for a few instructions on either side. Frames are dropped first: events may go
        to twice the limit."""
        size = _size(record)
        with self._lock:
            if self._bytes + size > (self.limit if isinstance(record, wire.Frame) else 2 * self.limit):
                self._drop(record)
                return
            if self._lost:
                self._close_gap()
            self._records.append(record)
            self._bytes += size
            told, self._told = self._told, True
        if not told:
            self.on_fresh()

    def take(self) -> list[wire.Record]:
        """Everything queued, oldest first."""
        with self._lock:
            if self._lost:
                self._close_gap()
            records = list(self._records)
            self._records.clear()
            self._bytes = 0
            self._told = False
        return records

    def put_back(self, records: list[wire.Record]) -> None:
        """What was taken could not be written: it is queued again, before what came since. Whoever took it comes
        again by itself."""
        with self._lock:
            self._records.extendleft(reversed(records))
            self._bytes += sum(map(_size, records))
            self._told = True

    def _drop(self, record: wire.Record) -> None:
        if not self._lost:
            self._lost_since = time.time()
            self._lost_why = self.trouble or FULL
        self._lost += 1
        self.dropped += 1
        if isinstance(record, wire.Frame):
            first = self._lost_steps[0] if self._lost_steps else record.step
            self._lost_steps = first, record.step

    def _close_gap(self) -> None:
        """What was lost becomes a record; one with the gap before it, where nothing lies between them."""
        before = self._records[-1] if self._records else None
        gap = self._gap()
        if isinstance(before, wire.Gap) and before.reason == gap.reason and before.through is None:
            self._records.pop()
            steps = [s for s in (before.first_step, before.last_step, gap.first_step, gap.last_step) if s is not None]
            gap = wire.Gap(
                count=before.count + gap.count,
                reason=gap.reason,
                since=before.since,
                until=gap.until,
                first_step=min(steps, default=None),
                last_step=max(steps, default=None),
            )
        self._records.append(gap)

    def _gap(self) -> wire.Gap:
        first, last = self._lost_steps or (None, None)
        gap = wire.Gap(
            count=self._lost,
            reason=self._lost_why,
            since=self._lost_since,
            until=time.time(),
            first_step=first,
            last_step=last,
        )
        self._lost, self._lost_steps = 0, None
        return gap


def _size(record: wire.Record) -> int:
    """Bytes in memory, about."""
    if isinstance(record, wire.Frame):
        return len(record.values) + 64
    return 64 * len(record.series) if isinstance(record, wire.Layout) else 512
