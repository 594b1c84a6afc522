"""What may be said when, without a socket."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from served import identify
from trainvitals import wire
from trainvitals_server.ingest.session import MAX_SEQUENCE, Close, Outcome, Session, State

HELLO = wire.Hello(protocol=wire.PROTOCOL, identity=identify(), first=0, next=0)
BATCH = wire.Batch(first=0, records=[])


def nested(levels: int) -> object:
    """Lists in lists."""
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def test_a_hello_opens_the_stream_and_batches_keep_it_open() -> None:
    """The way it is meant."""
    session = Session()
    assert session.receive(wire.encode(HELLO)) == HELLO
    assert session.receive(wire.encode(BATCH)) == BATCH
    assert session.state is State.STREAMING


@pytest.mark.parametrize(
    ("before", "message", "reason"),
    [([], BATCH, "got Batch while awaiting hello"), ([HELLO], HELLO, "got Hello while streaming")],
)
def test_a_message_out_of_turn_ends_the_session(before: list[wire.Hello], message: wire.Message, reason: str) -> None:
    """Whatever it is, and nothing may follow."""
    session = Session()
    for one in before:
        session.receive(wire.encode(one))
    assert session.receive(wire.encode(message)) == Close(1008, reason)
    assert isinstance(session.receive(wire.encode(BATCH)), Close)


def test_only_who_speaks_for_an_ended_trainer_tells_of_its_end() -> None:
    """A trainer that is here tells of itself, under its own numbers."""
    epilogue = wire.Batch(first=0, records=[], epilogue=True)
    session = Session()
    session.receive(wire.encode(HELLO))
    close = session.receive(wire.encode(epilogue))
    assert isinstance(close, Close)
    assert close.reason.startswith("expected records of a trainer that is here")
    session = Session()
    session.receive(wire.encode(msgspec.structs.replace(HELLO, ended=True)))
    assert session.receive(wire.encode(epilogue)) == epilogue


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"protocol": 99}, "expected protocol 2, got 99"),
        ({"identity": identify(run="../etc")}, "expected a run id"),
        ({"identity": identify(producer="")}, "expected a producer id"),
        ({"identity": identify(rank=-1)}, "expected a rank"),
        ({"first": 3, "next": 2}, "expected 0 <= first <= next"),
        ({"next": MAX_SEQUENCE}, "expected 0 <= first <= next"),
        ({"identity": identify(config={"a": nested(100)})}, "expected at most 48 levels in config"),
        ({"identity": identify(config={"a": [msgspec.msgpack.Ext(5, b"1")]})}, "expected in config what JSON can hold"),
    ],
)
def test_a_hello_that_cannot_be_accepted_is_told_why(change: dict[str, object], reason: str) -> None:
    """In one line that fits a close frame."""
    close = Session().receive(wire.encode(msgspec.structs.replace(HELLO, **change)))
    assert isinstance(close, Close)
    assert close.code == 1008
    assert reason in close.reason
    assert len(close.reason.encode()) <= 123


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_end_the_session_and_nothing_else(data: bytes) -> None:
    """Never an exception."""
    assert isinstance(Session().receive(data), Close | wire.Hello)


def test_nested_arrays_without_end_are_refused() -> None:
    """A hundred thousand levels are no reason to fail."""
    close = Session().receive(b"\x81\xa1t" + b"\x91" * 100_000)
    assert isinstance(close, Close)


def test_a_name_that_is_no_text_is_refused() -> None:
    """Bytes that are not UTF-8 are no exception."""
    data = wire.encode(msgspec.structs.replace(HELLO, identity=identify(run="zzzz")))
    close = Session().receive(data.replace(b"zzzz", b"zz\xff\xff"))
    assert isinstance(close, Close)
    assert len(close.reason.encode()) <= 123


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([b"x"] * (wire.MAX_BATCH_RECORDS + 1), "expected at most 500 records in a batch, got 501"),
        ([b"x" * wire.MAX_BATCH_BYTES, b"x"], "expected at most 262144 bytes of records in a batch, got 262145"),
    ],
)
def test_a_batch_beyond_the_limits_ends_the_session(records: list[bytes], reason: str) -> None:
    """Both sides know them."""
    session = Session()
    session.receive(wire.encode(HELLO))
    assert session.receive(wire.encode(wire.Batch(first=0, records=records))) == Close(1008, reason)


def test_one_long_record_may_come_alone() -> None:
    """A frame of very many columns is longer than a batch of several may be."""
    session = Session()
    session.receive(wire.encode(HELLO))
    batch = wire.Batch(first=0, records=[b"x" * (wire.MAX_BATCH_BYTES + 1)])
    assert session.receive(wire.encode(batch)) == batch


def test_a_batch_is_answered_by_its_rejects_and_then_the_watermark() -> None:
    """The stream goes on past what will never be accepted."""
    answer = Session().answer(5, Outcome(7, rejected=((5, "why"),)))
    assert answer == [wire.Nack(kind="permanent", seq=5, reason="why"), wire.Ack(seq=7)]


def test_a_hole_is_nacked_once_for_all_that_was_in_flight_behind_it() -> None:
    """And again only if it comes again later."""
    session = Session()
    hole = Outcome(4, hole=True)
    assert session.answer(7, hole) == [wire.Nack(kind="gap", seq=5)]
    assert session.answer(8, hole) == []
    assert session.answer(5, Outcome(9)) == [wire.Ack(seq=9)]
    assert session.answer(11, Outcome(9, hole=True)) == [wire.Nack(kind="gap", seq=10)]


def test_a_hole_is_nacked_again_where_what_was_sent_again_did_not_come() -> None:
    """The batches began anew, without the one that was asked for."""
    session = Session()
    hole = Outcome(4, hole=True)
    assert [len(session.answer(first, hole)) for first in (7, 8, 7, 8)] == [1, 0, 1, 0]
