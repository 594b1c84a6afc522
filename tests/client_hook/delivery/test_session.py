"""The trainer's side of the protocol, message by message."""

import pytest

from trainvitals import wire
from trainvitals.delivery.session import ProtocolError, Session

IDENTITY = wire.Identity(run="r", producer="p", name="n")


def streaming(committed: int = -1) -> Session:
    session = Session(IDENTITY)
    session.receive(wire.Welcome(protocol=wire.PROTOCOL, committed=committed))
    return session


def test_hello_says_what_is_held() -> None:
    """From where to where."""
    assert Session(IDENTITY).hello(3, 9) == wire.Hello(protocol=wire.PROTOCOL, identity=IDENTITY, first=3, next=9)


def test_after_welcome_the_stream_goes_on_behind_what_is_committed() -> None:
    """Not from the beginning."""
    session = Session(IDENTITY)
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
        session.sent(wire.Batch(first=10 * i, records=[b""] * 10))
    assert not session.may_send()
    assert session.receive(wire.Ack(seq=19)).committed == 19
    assert list(session.in_flight) == [29, 39]
    assert session.may_send()


def test_a_gap_rewinds() -> None:
    """To where the server wants to go on."""
    session = streaming()
    session.sent(wire.Batch(first=5, records=[b""]))
    reaction = session.receive(wire.Nack(kind="gap", seq=2))
    assert (reaction.rewind, reaction.wait, list(session.in_flight)) == (2, 0.0, [])


def test_a_busy_server_is_given_time() -> None:
    """But never more than 30 s."""
    assert streaming().receive(wire.Nack(kind="retry", seq=7, after=900)).wait == 30
    assert streaming().receive(wire.Nack(kind="retry", seq=7, after=1)).rewind == 7


def test_a_record_refused_for_good_is_set_aside() -> None:
    """And the stream goes on behind it."""
    reaction = streaming().receive(wire.Nack(kind="permanent", seq=7, reason="bad"))
    assert (reaction.set_aside, reaction.rewind, reaction.reason) == (7, 8, "bad")


def test_a_command_is_handed_on() -> None:
    """Whatever it asks for is judged elsewhere."""
    command = wire.Command(id="c", producer="p", action="sanitize", ttl=30, expires=1.0)
    assert streaming().receive(command).command == command
    with pytest.raises(ProtocolError, match="got Welcome"):
        streaming().receive(wire.Welcome(protocol=wire.PROTOCOL, committed=0))
