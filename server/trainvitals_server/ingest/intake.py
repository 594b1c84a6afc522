"""What a batch does to the store, inside one transaction.

The committed sequence, read in the transaction, is the only gate: what is at or below it is discarded, a batch that
begins behind it is a hole. A record that cannot be used is set aside, and the stream goes on past it.
"""

import logging
from collections.abc import Callable

import msgspec

from trainvitals import wire
from trainvitals_server.commands import progress
from trainvitals_server.ingest import declaring
from trainvitals_server.ingest.blocks import Gathering, check_frame
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.comparing import compare_ranks
from trainvitals_server.ingest.freeform import check_free
from trainvitals_server.ingest.joining import join_shards
from trainvitals_server.ingest.judging import close_alerts
from trainvitals_server.ingest.session import Outcome
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.runs import heard, parting, transitions
from trainvitals_server.store import events, journal, runs

log = logging.getLogger("trainvitals.server")

MAX_STEP = 1 << 53  # steps travel as float64 to browsers
MAX_REASON = 2000  # characters
CONCLUDING = ("gap", "command", "notice")  # what can be said of another process's end


def enter(tx: Transaction, hello: wire.Hello) -> runs.Producer:
    """The producer that says hello, with its watermark. Records that its trainer no longer holds and that never came
    are a gap."""
    transitions.check_time(hello.identity.started)
    runs.check_open(tx.connection, hello.identity.run)
    before = runs.get(tx.connection, hello.identity.run)
    away = max(0.0, tx.now - before["last_seen"]) if before is not None else 0.0
    producer, new = runs.enter(tx.connection, hello.identity, tx.now)
    if not new and not hello.ended:
        go_on(tx, producer)
    if runs.newest_producer(tx.connection, producer.run, producer.rank) == producer:
        _lead(tx, producer, new=new, back=not new and not hello.ended, away=away)
    missing = hello.first - producer.committed - 1
    if missing > 0:
        reason, last = "no longer held by the trainer", hello.first - 1
        gap = wire.Gap(count=missing, reason=reason, since=tx.now, until=tx.now, through=last)
        transitions.record_event(tx, producer, gap, seq=producer.committed + 1)
        runs.advance(tx.connection, producer.id, hello.first - 1, dropped=missing)
        producer = producer._replace(committed=hello.first - 1)
    changed = tx.changes[producer.run]  # a summary shows who is connected
    if changed.state is None:  # the pulse may know nothing of this run, which may have ended long ago
        row = runs.get(tx.connection, producer.run)
        changed.state = row["state"] if row is not None else None
    return producer._replace(ended=hello.ended)


def _lead(tx: Transaction, producer: runs.Producer, *, new: bool, back: bool, away: float) -> None:
    """A rank's newest process says hello, `back` after `away` seconds; a new one takes over from those before it."""
    if new:
        close_alerts(tx, producer)
    if producer.rank == 0 and new:
        transitions.signal(tx, producer.run, "entered")
    if producer.rank == 0 and back:
        transitions.signal(tx, producer.run, "contact", f"the trainer is back after {parting.span(away)}")
    if new:
        reason = "another process resumed the run, and the one before did not say how this ended"
        progress.abandon(tx, producer.run, reason, producer.producer, producer.rank)


def describe(tx: Transaction, books: Books, who: runs.Producer, layouts: wire.Layouts) -> None:
    """Declare layouts ahead of their frames. One that cannot be used is logged; its frames will say what they lack."""
    for data in layouts.records:
        try:
            record = wire.decode_record(data)
            if not isinstance(record, wire.Layout):
                raise ValueError(f"expected a layout, got {type(record).__name__}")
            declaring.declare(tx, books, who, record)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            log.warning("a layout of run %r could not be used: %s", who.run, f"{error}"[:200])


def take(tx: Transaction, books: Books, who: runs.Producer, batch: wire.Batch) -> Outcome:
    """Store a batch. The outcome says where the watermark is now. Of a gap that stands for several numbers, some of
    which were committed before, the rest is taken: the batch then ends with it and nothing else in it is fresh."""
    tx.booked = True
    committed, ended = runs.standing(tx.connection, who.id)
    if batch.first > committed + 1:
        return Outcome(committed, hole=True)
    if batch.epilogue:
        return conclude(tx, books, who, batch, committed)
    last = batch.last
    if last <= committed:
        return Outcome(committed)
    if ended:
        go_on(tx, who)
    known = min(committed + 1 - batch.first, len(batch.records) - 1)
    intake = Intake(tx, books, who, committed, batch.first + len(batch.records) - 1)
    rejected = []
    for seq, data in enumerate(batch.records[known:], batch.first + known):
        if reason := intake.record(seq, data):
            journal.quarantine(tx.connection, who.id, seq=seq, now=tx.now, reason=reason, record=data)
            rejected.append((seq, reason))
    intake.finish()
    if rejected:
        tx.changes.touch(who.run)  # its summary counts them
    runs.advance(tx.connection, who.id, last, dropped=intake.dropped)
    return Outcome(last, rejected=tuple(rejected))


def conclude(tx: Transaction, books: Books, who: runs.Producer, batch: wire.Batch, committed: int) -> Outcome:
    """Store what another process says of the end of `who`, once, behind all that it said itself. The watermark stays:
    should it live after all, its next records have these numbers."""
    if batch.first <= committed:  # it is the end of a copy that is behind what is here
        return Outcome(committed)
    if not events.behind(tx.connection, who.id, committed):
        intake = Intake(tx, books, who, committed, batch.last)
        for seq, data in enumerate(batch.records, batch.first):
            said = wire.tag(data) in CONCLUDING
            reason = intake.record(seq, data) if said else f"expected {' or '.join(CONCLUDING)}, got another record"
            if reason:
                log.warning("what was said of the end of run %r could not be used: %s", who.run, reason[:200])
        intake.finish()
        runs.advance(tx.connection, who.id, committed, dropped=intake.dropped)
        if not runs.standing(tx.connection, who.id)[1]:  # its process went on as another producer
            runs.note_end(tx.connection, who.id, "lost", "the end of what it recorded is not whole")
    return Outcome(batch.last)


def go_on(tx: Transaction, who: runs.Producer) -> None:
    """A producer of whose end was told goes on: that was not its end, and what was said of it is taken back. Where it
    told of it itself, these are its last records."""
    committed, ended = runs.standing(tx.connection, who.id)
    if not ended:
        return
    runs.revive(tx.connection, who.id)
    if said := events.behind(tx.connection, who.id, committed):
        events.remove(tx.connection, [one for one, _ in said])
        counted = sum(record.count for _, record in said if isinstance(record, wire.Gap))
        runs.advance(tx.connection, who.id, committed, dropped=-counted)
        tx.changes[who.run].retold = True


class Intake:
    """One batch's records, one after another. What is at or below `committed` came before; `end` is the number of
    the batch's last record."""

    def __init__(self, tx: Transaction, books: Books, who: runs.Producer, committed: int, end: int) -> None:
        self.dropped = 0
        self._committed = committed
        self._end = end
        self._tx = tx
        self._books = books
        found = runs.find_producer(tx.connection, who.run, who.producer)
        self._producer = found or who
        newest = runs.newest_producer(tx.connection, who.run, who.rank)
        self._newest = newest is not None and newest.id == who.id
        self._lives = self._newest and not who.ended and who.rank == 0
        self._gathering = Gathering(self._producer, shown=self._newest)
        self._seq = 0
        self._orphaned = ""

    def record(self, seq: int, data: bytes) -> str:
        """Take in one record; returns why it cannot be, or ""."""
        self._seq = seq
        try:
            record = wire.decode_record(data)
            handler = HANDLERS.get(type(record), Intake._event)
            handler(self, record)
        except (msgspec.DecodeError, ValueError) as error:
            return f"{error}"[:500]
        except RecursionError:
            return "expected a record of moderate depth, got a deeper one"
        return ""

    def finish(self) -> None:
        """Store what is still gathered."""
        self._gathering.flush(self._tx, self._books)
        if self._gathering.sharded:
            join_shards(self._tx, self._books, self._producer)
        if self._gathering.compared:
            compare_ranks(self._tx, self._books, self._producer)
        if self._lives and self._tx.changes[self._producer.run].stored:
            transitions.signal(self._tx, self._producer.run, "frames")
        if self._orphaned:
            self._bury(self._orphaned)

    def _layout(self, record: wire.Layout) -> None:
        self._gathering.flush(self._tx, self._books)
        declaring.declare(self._tx, self._books, self._producer, record)

    def _frame(self, record: wire.Frame) -> None:
        _check_place(record.step, record.time)
        layout = self._books.layout(self._tx.connection, self._producer.id, record.layout)
        if layout is None:
            raise ValueError(f"expected a declared layout, got {record.layout}")
        gathering = self._gathering
        if gathering.layout is not None and gathering.layout.id != layout.id:
            gathering.flush(self._tx, self._books)
        last = self._books.last_step(self._tx.connection, self._producer.id, layout.id)
        check_frame(record, layout, gathering.frames[-1].step if gathering.frames else last)
        gathering.layout = layout
        gathering.frames.append(record)
        self._producer = self._producer._replace(last_step=record.step)

    def _gap(self, record: wire.Gap) -> None:
        for moment in (record.since, record.until):
            transitions.check_time(moment)
        if not 0 <= record.count < MAX_STEP:
            raise ValueError(f"expected a count of records, got {record.count}")
        for step in (record.first_step, record.last_step):
            _check_place(step or 0, 0.0)
        if record.through is not None:
            record = self._rest(record, record.through)
        self._gathering.flush(self._tx, self._books)
        self.dropped += record.count
        transitions.record_event(self._tx, self._producer, record, seq=self._seq)

    def _notice(self, record: wire.Notice) -> None:
        self._event(record)
        if record.code == heard.ORPHANED:
            self._orphaned = record.text[:MAX_REASON]

    def _bury(self, reason: str) -> None:
        """The process has ended without a word; after its frames, which came late."""
        runs.note_end(self._tx.connection, self._producer.id, "lost", reason)
        if self._newest and self._producer.rank == 0:
            transitions.signal(self._tx, self._producer.run, "orphaned", reason)

    def _rest(self, record: wire.Gap, through: int) -> wire.Gap:
        """What a gap that stands for several numbers says of those that were not committed before: it counts them all,
        whatever it claims."""
        if self._seq != self._end:
            raise ValueError(f"expected a gap through {through} at the end of its batch, got more records behind it")
        if not self._seq <= through < wire.MAX_SEQUENCE:
            raise ValueError(f"expected a gap from {self._seq} to reach a number from there on, got {through}")
        return msgspec.structs.replace(record, count=max(through - max(self._committed, self._seq - 1), 0))

    def _event(self, record: wire.Event) -> None:
        _check_place(record.step, record.time)
        transitions.record_event(self._tx, self._producer, record, seq=self._seq)
        self._gathering.events.append(record)
        if isinstance(record, wire.Sanitized) and record.origin != "command":
            runs.update(self._tx.connection, self._producer.run, altered=1)

    def _lifecycle(self, record: wire.Lifecycle) -> None:
        self._event(record)
        reason = record.error or record.reason
        if record.state in ("finished", "failed"):
            runs.note_end(self._tx.connection, self._producer.id, record.state, reason)
        if self._newest and self._producer.rank == 0:
            transitions.signal(self._tx, self._producer.run, record.state, reason, record)

    def _command(self, record: wire.CommandUpdate) -> None:
        check_free(record.result, "result")
        self._event(record)
        progress.note(self._tx, self._producer, record)


def _check_place(step: int, moment: float) -> None:
    if not 0 <= step < MAX_STEP:
        raise ValueError(f"expected a step from 0 to 2**53, got {step}")
    transitions.check_time(moment)


HANDLERS: dict[type, Callable[..., None]] = {
    wire.Layout: Intake._layout,
    wire.Frame: Intake._frame,
    wire.Gap: Intake._gap,
    wire.Lifecycle: Intake._lifecycle,
    wire.Notice: Intake._notice,
    wire.CommandUpdate: Intake._command,
}
