"""A reader that knows how far the spool goes: what is missing becomes a gap, and the stream goes on."""

from pathlib import Path

import pytest

from spools import accounted, append, identity, left, let_go, notice, stream
from trainvitals import wire
from trainvitals.delivery import retention
from trainvitals.delivery.reading import DAMAGED
from trainvitals.delivery.remains import take
from trainvitals.delivery.segments import frame, segment_path, starts
from trainvitals.delivery.spool import Spool


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    """Twelve records, four in each segment."""
    monkeypatch.setattr(retention, "SEGMENT_BYTES", 4 * len(frame(0, wire.encode(notice(0)))))
    made = Spool(tmp_path / "spool/r/p", identity())
    for step in range(12):
        append(made, notice(step))
    assert starts(made.path) == [0, 4, 8]
    return made


def lost(rows: list[tuple[int, wire.Record]]) -> list[tuple[int, int]]:
    """From where to where gaps stand for numbers."""
    return [(seq, one.through) for seq, one in rows if isinstance(one, wire.Gap) and one.through is not None]


def test_a_spoiled_record_is_a_gap_of_one(spool: Spool) -> None:
    """In the midst of the newest file too, since it is known to be written."""
    for start, seq in ((0, 1), (4, 7), (8, 8), (8, 11)):
        path = segment_path(spool.path, start)
        whole = path.read_bytes()
        size = len(whole) // 4
        data = bytearray(whole)
        data[(seq - start) * size + 20] ^= 1
        path.write_bytes(data)
        rows = stream(spool)
        assert lost(rows) == [(seq, seq)]
        assert accounted(rows) == 12
        gap = dict(rows)[seq]
        assert isinstance(gap, wire.Gap)
        assert gap.reason == DAMAGED
        path.write_bytes(whole)
    assert lost(stream(spool)) == []


def test_cut_at_every_byte_any_segment_ends_in_a_gap(spool: Spool) -> None:
    """Up to where the next one begins."""
    for start in (0, 4, 8):
        path = segment_path(spool.path, start)
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            rows = stream(spool)
            assert accounted(rows) == 12
            assert lost(rows) == [(start + length * 4 // len(whole), start + 3)]
        path.write_bytes(whole)


@pytest.mark.parametrize("gone", [[0], [4], [8], [0, 8], [0, 4, 8]])
def test_a_file_that_is_gone_is_a_gap(spool: Spool, gone: list[int]) -> None:
    """Deleted by hand, or by a failing disk."""
    for start in gone:
        segment_path(spool.path, start).unlink()
    rows = stream(spool)
    assert accounted(rows) == 12
    assert sum(through - seq + 1 for seq, through in lost(rows)) == 4 * len(gone)


def test_a_stream_may_begin_within_a_gap(spool: Spool) -> None:
    """The record that stands for the number asked for is sent."""
    gap = wire.Gap(count=5, reason="r", since=0.0, until=0.0, through=16)
    append(spool, gap)
    spool.next = 17
    append(spool, notice(17))
    for first in (12, 14, 16):
        rows = stream(spool, first)
        assert rows == [(12, gap), (17, notice(17))]


def test_a_gap_that_stands_for_numbers_ends_its_batch(spool: Spool) -> None:
    """The next one begins behind it."""
    segment_path(spool.path, 4).unlink()
    reader = spool.reader()
    reader.seek(2)
    first, second = reader.batch(), reader.batch()
    assert first is not None
    assert second is not None
    assert (first.first, len(first.records), first.last) == (2, 3, 7)
    assert (second.first, second.last) == (8, 11)
    assert reader.batch() is None
    reader.close()


def test_a_reader_follows_a_spool_whose_files_break_behind_it(spool: Spool) -> None:
    """What is appended after the damage is read by the same reader."""
    reader = spool.reader()
    reader.seek(0)
    assert reader.batch() is not None
    segment_path(spool.path, 8).write_bytes(b"")
    append(spool, notice(12))
    batch = reader.batch()
    assert batch is not None
    assert batch.last == 12
    reader.close()


def test_what_was_left_is_read_by_the_next_one_to_the_last_whole_record(tmp_path: Path) -> None:
    """The torn rest is counted: see `test_remains.py`."""
    path = left(tmp_path, [notice(step) for step in range(3)])
    file = segment_path(path, 0)
    file.write_bytes(file.read_bytes()[:-1])
    remains = take(path)
    assert remains is not None
    assert list(remains.survey()) == [file.stat().st_size]
    assert (remains.first, remains.next) == (0, 2)
    assert stream(remains) == [(0, notice(0)), (1, notice(1))]
    remains.release()


def test_a_spool_can_be_let_go_of(spool: Spool) -> None:
    """As by a killed process."""
    let_go(spool)
    assert take(spool.path) is not None
