"""Layouts outlive the segment that told them."""

from pathlib import Path

from spools import append, frame, identity, layout, left, notice
from trainvitals import wire
from trainvitals.delivery.descriptions import NAME, Descriptions
from trainvitals.delivery.remains import take
from trainvitals.delivery.spool import Spool


def told(messages: list[wire.Layouts]) -> list[wire.Record]:
    return [wire.decode_record(data) for message in messages for data in message.records]


def test_a_server_that_lacks_what_is_no_longer_held_is_given_the_layouts(tmp_path: Path) -> None:
    """Its watermark then lies right before what is held; one that is further on needs nothing."""
    spool = Spool(tmp_path / "spool/r/p", identity())
    append(spool, layout(), frame(0), notice(1))
    assert list(spool.missing_layouts(-1)) == []
    spool.first = 2
    assert told(list(spool.missing_layouts(1))) == [layout()]
    assert list(spool.missing_layouts(2)) == []
    spool.close()


def test_a_layout_that_came_again_is_given_as_it_is_now(tmp_path: Path) -> None:
    """Its order may have become known meanwhile."""
    spool = Spool(tmp_path / "spool/r/p", identity())
    again = wire.Layout(id=1, offset=0, total=1, series=[wire.Series(0, "a", wire.NORM, wire.MEAN_MIN, 7)])
    append(spool, layout(1), frame(0), again)
    spool.first = 5
    assert told(list(spool.missing_layouts(4))) == [again]
    spool.close()


def test_whoever_recovers_a_spool_finds_them(tmp_path: Path) -> None:
    """Even where the segment that told them was damaged: all of them are given then."""
    path = left(tmp_path, [layout(), frame(0), frame(1), notice(2)])
    segment = next(path.glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[20] ^= 1
    segment.write_bytes(data)
    remains = take(path)
    assert remains is not None
    assert list(remains.survey())
    assert told(list(remains.missing_layouts(-1))) == [layout()]
    remains.release()


def test_a_torn_file_gives_what_is_whole(tmp_path: Path) -> None:
    """As a segment does."""
    kept = Descriptions(tmp_path)
    kept.note(0, [wire.encode(layout())])
    kept.note(9, [wire.encode(wire.Layout(id=2, offset=0, total=1, series=[wire.Series(9, "", wire.RUN, wire.LOSS)]))])
    file = tmp_path / NAME
    file.write_bytes(file.read_bytes()[:-3])
    found = Descriptions(tmp_path)
    found.read()
    assert told(list(found.before(100))) == [layout()]
    assert (file.stat().st_mode & 0o777) == 0o600


def test_large_layouts_go_in_several_messages(tmp_path: Path) -> None:
    """Each no longer than a batch."""
    kept = Descriptions(tmp_path)
    pieces = [
        wire.Layout(id=1, offset=n, total=40, series=[wire.Series(n, "x" * 60_000, wire.RUN, "s")]) for n in range(40)
    ]
    kept.note(0, [wire.encode(one) for one in pieces])
    messages = list(kept.before(100))
    assert all(len(wire.encode(one)) <= wire.MAX_MESSAGE_BYTES for one in messages)
    assert told(messages) == pieces


def test_many_small_layouts_go_in_several_messages(tmp_path: Path) -> None:
    """A server takes no more records at once than a batch may have."""
    kept = Descriptions(tmp_path)
    pieces = [wire.Layout(id=n, offset=0, total=1, series=[wire.Series(n, "", wire.RUN, "s")]) for n in range(1001)]
    kept.note(0, [wire.encode(one) for one in pieces])
    messages = list(kept.before(2000))
    assert [len(one.records) for one in messages] == [500, 500, 1]
    assert told(messages) == pieces


def test_frames_between_two_tellings_can_be_read(tmp_path: Path) -> None:
    """What was told before the first record that is held is given, though it was told again behind it."""
    spool = Spool(tmp_path / "spool/r/p", identity())
    again = wire.Layout(id=1, offset=0, total=1, series=[wire.Series(0, "a", wire.NORM, wire.MEAN_MIN, 7)])
    append(spool, layout(1), frame(0), frame(1), again)
    spool.first = 2
    assert told(list(spool.missing_layouts(1))) == [again]
    spool.close()


def test_no_record_waits_for_the_spare_copy(tmp_path: Path) -> None:
    """It is written as soon as it can be."""
    spool = Spool(tmp_path / "spool/r/p", identity())
    file = spool.path / NAME
    file.mkdir()
    append(spool, layout(), frame(0))
    assert spool.next == 2
    file.rmdir()
    other = wire.Layout(id=2, offset=0, total=1, series=[wire.Series(9, "", wire.RUN, wire.LOSS)])
    append(spool, other)
    found = Descriptions(spool.path)
    found.read()
    assert told(list(found.before(100))) == [layout(), other]
    spool.close()
