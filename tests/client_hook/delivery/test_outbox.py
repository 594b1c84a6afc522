"""The queue between training and delivery never waits, never grows without bound, and counts what it drops."""

from trainvitals import wire
from trainvitals.delivery.outbox import Outbox


def frame(step: int, size: int = 1000) -> wire.Frame:
    return wire.Frame(layout=0, step=step, time=0.0, values=bytes(size))


def test_records_come_out_in_order() -> None:
    """First in, first out, and then it is empty."""
    outbox = Outbox()
    records = [frame(step) for step in range(5)]
    for record in records:
        outbox.put(record)
    assert outbox.take() == records
    assert outbox.take() == []


def test_what_does_not_fit_is_counted_and_becomes_a_gap() -> None:
    """The gap says how many, and between which steps."""
    outbox = Outbox(limit=3 * 1064)
    for step in range(10):
        outbox.put(frame(step))
    *kept, gap = outbox.take()
    assert [record.step for record in kept if isinstance(record, wire.Frame)] == [0, 1, 2]
    assert isinstance(gap, wire.Gap)
    assert (gap.count, gap.first_step, gap.last_step) == (7, 3, 9)
    assert outbox.dropped == 7


def test_the_gap_comes_before_what_follows_it() -> None:
    """Order tells where the hole is."""
    outbox = Outbox(limit=2 * 1064)
    for step in range(3):
        outbox.put(frame(step))
    outbox.put(wire.Notice(step=3, time=0.0, code="x", text="y"))
    assert [type(record) for record in outbox.take()] == [wire.Frame, wire.Frame, wire.Gap, wire.Notice]


def test_events_are_dropped_last() -> None:
    """A flood of frames does not push out an alarm."""
    outbox = Outbox(limit=1064)
    for step in range(5):
        outbox.put(frame(step))
    event = wire.Notice(step=5, time=0.0, code="x", text="y")
    outbox.put(event)
    assert event in outbox.take()


def test_it_tells_of_what_is_queued_once_until_it_is_taken() -> None:
    """The background is woken for the first record, not for each."""
    outbox, told = Outbox(), []
    outbox.on_fresh = lambda: told.append(len(outbox.take()))
    outbox.put(frame(0))
    assert told == [1]
    outbox.on_fresh = lambda: told.append(-1)
    outbox.put(frame(1))
    outbox.put(frame(2))
    assert told == [1, -1]
    outbox.take()
    outbox.put(frame(3))
    assert told == [1, -1, -1]
