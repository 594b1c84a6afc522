"""The trainer's side of the protocol, message by message."""

import pytest

from trainvitals import wire
from trainvitals.delivery.session import ProtocolError, Session

IDENTITY = wire.Identity(run="r", producer="p", name="n")


def streaming(committed: int = -1) -> Session:
    session = Session(IDENTITY)
    session.hello(0, committed + 1)
    session.receive(wire.Welcome(protocol=wire.PROTOCOL, committed=committed))
    return session


def batch(first: int, last: int) -> wire.Batch:
    return wire.Batch(first=first, records=[b""] * (last - first + 1))


def test_hello_says_what_is_held() -> None:
    """From where to where."""
    assert Session(IDENTITY).hello(3, 9) == wire.Hello(protocol=wire.PROTOCOL, identity=IDENTITY, first=3, next=9)


def test_after_welcome_the_stream_goes_on_behind_what_is_committed() -> None:
    """Not from the beginning."""
    session = Session(IDENTITY)
    session.hello(30, 60)
    assert not session.may_send()
    assert session.receive(wire.Welcome(protocol=wire.PROTOCOL, committed=41)).rewind == 42
    assert session.may_send()


@pytest.mark.parametrize(
    "message", [wire.Ack(seq=1), wire.Nack(kind="gap", seq=0), wire.Welcome(protocol=99, committed=0)]
)
def test_anything_but_the_right_welcome_ends_the_greeting(message: wire.ToTrainer) -> None:
    """A server of another protocol is told apart from a broken one by the text."""
    with pytest.raises(ProtocolError, match="expected"):
        Session(IDENTITY).receive(message)


def test_at_most_four_batches_are_unanswered() -> None:
    """An ack makes room for as many as it covers."""
    session = streaming()
    for i in range(wire.MAX_IN_FLIGHT):
        assert session.may_send()
        session.sent(batch(10 * i, 10 * i + 9))
    assert not session.may_send()
    assert session.receive(wire.Ack(seq=19)).committed == 19
    assert list(session.in_flight) == [29, 39]
    assert session.may_send()


def test_a_gap_rewinds() -> None:
    """To behind what the server has."""
    session = streaming(1)
    session.sent(batch(5, 5))
    reaction = session.receive(wire.Nack(kind="gap", seq=2))
    assert (reaction.rewind, reaction.wait, list(session.in_flight)) == (2, 0.0, [])


def test_a_busy_server_is_given_time() -> None:
    """But never more than 30 s."""
    assert streaming(6).receive(wire.Nack(kind="retry", seq=7, after=900)).wait == 30
    assert streaming(6).receive(wire.Nack(kind="retry", seq=7, after=1)).rewind == 7


def test_several_batches_that_found_the_server_busy_all_come_again() -> None:
    """From the first of them on, whichever answer came last."""
    session = streaming(6)
    session.sent(batch(7, 9))
    session.sent(batch(10, 12))
    session.receive(wire.Nack(kind="retry", seq=7, after=1))
    assert session.receive(wire.Nack(kind="retry", seq=10, after=1)).rewind == 7


def test_a_record_refused_for_good_is_set_aside() -> None:
    """And the stream goes on behind it."""
    reaction = streaming().receive(wire.Nack(kind="permanent", seq=7, reason="bad"))
    assert (reaction.set_aside, reaction.rewind, reaction.reason) == (7, 8, "bad")


def test_what_was_never_sent_cannot_be_acknowledged() -> None:
    """It would be removed from the spool."""
    session = streaming(6)
    session.sent(batch(7, 9))
    with pytest.raises(ProtocolError, match="expected an ack of at most record 9, got 10"):
        session.receive(wire.Ack(seq=10))


def test_a_server_that_has_more_than_a_torn_spool_is_believed() -> None:
    """What was torn off is there, and what is added behind it may be acknowledged."""
    session = Session(IDENTITY)
    session.hello(0, 10)
    reaction = session.receive(wire.Welcome(protocol=wire.PROTOCOL, committed=12))
    assert (reaction.rewind, reaction.committed) == (13, 12)
    session.sent(batch(13, 13))
    assert session.receive(wire.Ack(seq=13)).committed == 13


def test_a_command_is_handed_on() -> None:
    """Whatever it asks for is judged elsewhere."""
    command = wire.Command(id="c", producer="p", action="sanitize", ttl=30, expires=1.0)
    assert streaming().receive(command).command == command
    with pytest.raises(ProtocolError, match="got Welcome"):
        streaming().receive(wire.Welcome(protocol=wire.PROTOCOL, committed=0))
