"""Batches that wait for the writer: what is joined, what is not, and what becomes of those it never came for."""

from pathlib import Path

import pytest

from served import frame, identify, layout
from trainvitals import wire
from trainvitals_server.clock import Clock
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.inbox import JOINED_BYTES, Inbox, join
from trainvitals_server.ingest.intake import enter
from trainvitals_server.ingest.session import Outcome
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.ingest.writer import Writer
from trainvitals_server.store.database import Database

LOSS = ("", wire.RUN, wire.LOSS)


def batch(first: int, *records: wire.Message | bytes) -> wire.Batch:
    """These records, numbered from `first`."""
    return wire.Batch(first=first, records=[one if isinstance(one, bytes) else wire.encode(one) for one in records])


def shapes(*batches: wire.Batch) -> list[tuple[int, int]]:
    """First number and length of what they are joined to."""
    return [(one.first, len(one.records)) for one in join(list(batches))]


def test_batches_that_follow_one_another_are_joined() -> None:
    """And no others: a hole, or records that come again, are the intake's to judge."""
    record = frame(1, [1.0])
    assert shapes(batch(0, record, record), batch(2, record), batch(3, record)) == [(0, 4)]
    assert shapes(batch(0, record), batch(2, record), batch(3, record)) == [(0, 1), (2, 2)]
    assert shapes(batch(0, record, record), batch(1, record)) == [(0, 2), (1, 1)]
    assert shapes(batch(0), batch(0, record)) == [(0, 0), (0, 1)]
    epilogue = wire.Batch(first=1, records=[wire.encode(record)], epilogue=True)
    assert shapes(batch(0, record), epilogue, batch(2, record)) == [(0, 1), (1, 1), (2, 1)]
    assert shapes() == []


def test_what_is_joined_stays_short_and_ends_with_a_gap_or_what_cannot_be_read() -> None:
    """A gap may stand for more numbers than one, which only its own batch tells."""
    long = bytes(JOINED_BYTES // 2 + 1)
    assert shapes(batch(0, long), batch(1, long)) == [(0, 1), (1, 1)]
    gap = wire.Gap(count=3, reason="x", since=1.0, until=2.0)
    assert shapes(batch(0, frame(1, [1.0]), gap), batch(2, frame(2, [1.0]))) == [(0, 2), (2, 1)]
    assert shapes(batch(0, b"\xc1"), batch(1, frame(2, [1.0]))) == [(0, 1), (1, 1)]


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """One that has not been started."""
    return Writer(Database(tmp_path / "test.db"), lambda changes: None, lambda: None, Clock())


def test_one_call_of_the_writer_takes_all_that_waits(writer: Writer) -> None:
    """What comes afterwards calls again."""
    hello = wire.Hello(protocol=wire.PROTOCOL, identity=identify(), first=0, next=0)
    who = writer.submit(lambda tx: enter(tx, hello))
    writer.start()
    inbox = Inbox(Books(), who.result(10))
    haul = inbox.put(batch(0, layout(LOSS), frame(0, [1.0])))
    assert haul is not None
    assert inbox.put(batch(2, frame(1, [1.0]))) is None
    assert inbox.put(batch(9, frame(2, [1.0]))) is None
    assert writer.submit(haul).result(10) == [(0, Outcome(2)), (9, Outcome(2, hole=True))]
    assert [one.first for one in haul.batches] == [0, 2, 9]
    again = inbox.put(batch(3, frame(2, [1.0])))
    assert again is not None
    assert writer.submit(again).result(10) == [(3, Outcome(3))]
    writer.close()


def test_what_the_writer_never_came_for_is_known(writer: Writer) -> None:
    """So that whoever sent it can be told; and the inbox is not closed by that."""
    who = enter(Transaction(writer._connection, 1.0), wire.Hello(protocol=1, identity=identify(), first=0, next=0))
    inbox = Inbox(Books(), who)
    haul = inbox.put(batch(0, layout(LOSS)))
    assert haul is not None
    assert inbox.put(batch(1, frame(0, [1.0]))) is None
    haul.give_up()
    assert [one.first for one in haul.batches] == [0, 1]
    assert inbox.put(batch(0, layout(LOSS))) is not None
    writer._connection.close()
