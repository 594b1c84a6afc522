"""The batches of one connection that wait for the writer.

The writer is called once for all that has come by the time it gets here: batches that follow one another are stored
and judged as one. Of four trainers as fast as they can be this makes larger blocks (measured, with the answers given
in one call: 31 microseconds of CPU per step instead of 70); a thousand at one step per second catch up where they had
to wait.
"""

from collections import deque

import msgspec

from trainvitals import wire
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.intake import take
from trainvitals_server.ingest.session import Outcome
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.store import runs

Told = tuple[int, Outcome]  # the number of a batch's first record, and what the store made of it
JOINED_BYTES = 1 << 20  # so that one transaction's part stays short


class Inbox:
    """Filled on the event loop, emptied by the writer's thread, each by one operation that cannot be interrupted."""

    def __init__(self, books: Books, who: runs.Producer) -> None:
        self._books = books
        self._who = who
        self._batches: deque[wire.Batch] = deque()
        self._called = False

    def put(self, batch: wire.Batch) -> "Haul | None":
        """Add a batch; returns work to submit to the writer, unless what was submitted before will find it."""
        self._batches.append(batch)
        if self._called:
            return None
        self._called = True
        return Haul(self)

    def empty(self) -> list[wire.Batch]:
        """Take out everything."""
        self._called = False  # first: what is put in from now on calls again, in vain at the worst
        found = []
        while self._batches:
            found.append(self._batches.popleft())
        return found

    def store(self, tx: Transaction, batches: list[wire.Batch]) -> list[Told]:
        """Store batches, those together that follow one another."""
        return [(one.first, take(tx, self._books, self._who, one)) for one in join(batches)]


class Haul:
    """One call of the writer. `batches` are those that it took, in order, also where it failed."""

    def __init__(self, inbox: Inbox) -> None:
        self.batches: list[wire.Batch] = []
        self._inbox = inbox

    def __call__(self, tx: Transaction) -> list[Told]:
        """The work, on the writer's thread."""
        self.batches = self._inbox.empty()
        return self._inbox.store(tx, self.batches)

    def give_up(self) -> None:
        """Take what the writer never came for."""
        self.batches = self.batches or self._inbox.empty()


def join(batches: list[wire.Batch]) -> list[wire.Batch]:
    """The same records in as few batches as may be."""
    found: list[wire.Batch] = []
    size = 0
    for batch in batches:
        more = sum(map(len, batch.records))
        if found and size + more <= JOINED_BYTES and _follows(found[-1], batch):
            found[-1] = wire.Batch(first=found[-1].first, records=found[-1].records + batch.records)
            size += more
        else:
            found.append(batch)
            size = more
    return found


def _follows(before: wire.Batch, batch: wire.Batch) -> bool:
    """Whether a batch goes on where the other ends. A gap may stand for more numbers than its own, and ends a batch; an
    epilogue is one by itself."""
    if not before.records or batch.first != before.first + len(before.records) or batch.epilogue or before.epilogue:
        return False
    try:
        return not isinstance(wire.decode_record(before.records[-1]), wire.Gap)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
