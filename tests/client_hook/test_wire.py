"""The wire: what goes in comes out, and what is ill-formed is refused."""

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainvitals import wire

FLOATS = st.floats(width=32) | st.just(math.nan)


@given(step=st.integers(0, 2**53), time=st.floats(0, 4e9), values=st.binary(max_size=64))
def test_a_frame_survives_the_wire(step: int, time: float, values: bytes) -> None:
    """Any vector of bytes comes back as it was."""
    frame = wire.Frame(layout=3, step=step, time=time, values=values)
    assert wire.decode_record(wire.encode(frame)) == frame


def test_nonfinite_numbers_are_ordinary_values() -> None:
    """NaN and infinities are neither refused nor changed."""
    sent = wire.Validation(
        step=1, time=0.0, valid=0, errors=0, nonfinite=2, mean_loss=math.nan, metrics={"p": math.inf}
    )
    got = wire.decode_record(wire.encode(sent))
    assert isinstance(got, wire.Validation)
    assert math.isnan(got.mean_loss or 0)
    assert got.metrics == {"p": math.inf}


def test_an_unknown_field_is_ignored() -> None:
    """A newer speaker may say more."""
    data = msgspec.msgpack.encode({"t": "ack", "seq": 4, "mood": "good"})
    assert wire.decode_to_trainer(data) == wire.Ack(seq=4)


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x80", msgspec.msgpack.encode({"t": "nothing"}), msgspec.msgpack.encode({"t": "ack", "seq": "x"})],
)
def test_what_is_ill_formed_is_refused(data: bytes) -> None:
    """One error class, whatever is wrong."""
    with pytest.raises(msgspec.DecodeError):
        wire.decode_to_trainer(data)


def test_a_message_of_the_other_direction_is_refused() -> None:
    """A trainer cannot be welcomed by a trainer."""
    with pytest.raises(msgspec.ValidationError):
        wire.decode_to_server(wire.encode(wire.Welcome(protocol=wire.PROTOCOL, committed=-1)))


def test_a_batch_ends_where_its_last_gap_does() -> None:
    """Its last record may stand for many numbers."""
    gap = wire.Gap(count=9, reason="r", since=0.0, until=0.0, through=20)
    notice = wire.encode(wire.Notice(step=0, time=0.0, code="c", text="t"))
    assert wire.Batch(first=11, records=[notice, wire.encode(gap)]).last == 20
    assert wire.Batch(first=11, records=[wire.encode(gap), notice]).last == 12
    assert wire.Batch(first=30, records=[wire.encode(gap)]).last == 30
    assert wire.Batch(first=30, records=[b"\xc1"]).last == 30
    assert wire.Batch(first=30, records=[]).last == 29


def test_what_a_message_is_can_be_told_without_decoding_it() -> None:
    """Whatever else is in it."""
    assert wire.tag(wire.encode(wire.Frame(layout=0, step=1, time=0.0, values=bytes(8)))) == "frame"
    assert [wire.tag(data) for data in (b"", b"\x80", b"\xc1", b"\x81\xa1t\xa1\xff")] == [""] * 4
