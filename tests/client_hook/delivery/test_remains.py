"""What is said of a process that cannot say it any more, behind all that it said itself."""

import json
from pathlib import Path

import msgspec
import pytest

from spools import accounted, append, frame, identity, layout, left, notice, stream
from trainvitals import wire
from trainvitals.delivery import quarantine
from trainvitals.delivery.remains import Remains, take
from trainvitals.delivery.segments import frame as segments_frame
from trainvitals.delivery.segments import segment_path, starts
from trainvitals.delivery.spool import Spool
from trainvitals.delivery.survey import ORPHANED, SUPERSEDED

RECORDS = [layout(), frame(0), frame(1), notice(1)]


def claimed(path: Path, committed: int = -1) -> Remains:
    """Claimed, read through, and welcomed by a server that has records up to `committed`."""
    remains = take(path)
    assert remains is not None
    assert sum(1 for _ in remains.survey()) == len(starts(path))
    remains.welcome(committed)
    return remains


def ends(path: Path, committed: int = -1) -> list[tuple[int, wire.Record]]:
    """What is added at the end."""
    remains = claimed(path, committed)
    assert remains.next == max(remains.found.next, committed + 1)
    rows = [row for row in stream(remains, committed + 1) if row[0] >= remains.next]
    remains.release()
    return rows


def update(state: wire.CommandState, command: str = "c") -> wire.CommandUpdate:
    return wire.CommandUpdate(step=1, time=1e6, id=command, state=state)


def test_a_process_that_ended_without_a_word_is_told_of(tmp_path: Path) -> None:
    """When it wrote last, at its last step, and in the same words however often it is claimed: nothing is written."""
    path = left(tmp_path, RECORDS)
    moment = segment_path(path, 0).stat().st_mtime
    before = {one.name: one.stat().st_mtime_ns for one in path.iterdir()}
    for _ in range(3):
        remains = claimed(path)
        told = stream(remains)[len(RECORDS) :]
        remains.release()
    ((seq, record),) = told
    assert isinstance(record, wire.Notice)
    assert (seq, record.code, record.step, record.time) == (4, ORPHANED, 1, pytest.approx(moment))
    assert "process 7 on h ended without a word" in record.text
    assert {one.name: one.stat().st_mtime_ns for one in path.iterdir()} == before


def test_its_numbers_stay_free(tmp_path: Path) -> None:
    """A copy's owner may live elsewhere and give them to records: the watermark does not cover them."""
    path = left(tmp_path, RECORDS)
    remains = claimed(path)
    reader = remains.reader()
    reader.seek(0)
    batches = [reader.batch(), reader.batch(), reader.batch()]
    assert [(one.first, one.last, one.epilogue) if one else None for one in batches] == [
        (0, 3, False),
        (4, 4, True),
        None,
    ]
    reader.seek(4)
    again = reader.batch()
    reader.close()
    assert again == batches[1], "after a rewind it comes again"
    remains.acknowledge(3)
    assert not remains.delivered
    remains.acknowledge(4)
    assert remains.delivered
    assert (remains.committed, remains.next) == (3, 4)
    remains.note_watermark()
    assert (path / "watermark").read_text() == "3"
    remains.welcome(3)
    assert not remains.delivered, "it may be another server"
    remains.release()


@pytest.mark.parametrize(
    "last",
    [
        wire.Lifecycle(step=2, time=1e6, state="finished"),
        wire.Lifecycle(step=2, time=1e6, state="failed", error="e"),
        wire.Notice(step=2, time=1e6, code=SUPERSEDED, text="t"),
    ],
)
def test_of_one_that_said_how_it_ended_nothing_is_added(tmp_path: Path, last: wire.Record) -> None:
    """Nor of a producer whose process went on with another one."""
    assert ends(left(tmp_path, [*RECORDS, last])) == []


def test_a_process_that_began_again_did_not_end(tmp_path: Path) -> None:
    """Only the last word counts."""
    records = [wire.Lifecycle(step=2, time=1e6, state="finished"), wire.Lifecycle(step=2, time=1e6, state="live")]
    assert len(ends(left(tmp_path, [*RECORDS, *records]))) == 1


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_tail_is_counted(tmp_path: Path, cut: int) -> None:
    """In bytes and, by its heads, in records."""
    path = left(tmp_path, RECORDS)
    file = segment_path(path, 0)
    whole = file.stat().st_size
    with file.open("r+b") as opened:
        opened.truncate(whole - cut)
    (_, gap), (_, orphaned) = ends(path)
    assert isinstance(gap, wire.Gap)
    assert (gap.count, gap.through) == (1, None)
    assert gap.reason.startswith("the last ")
    assert isinstance(orphaned, wire.Notice)
    remains = claimed(path)
    assert accounted(stream(remains)) == 5
    assert remains.lost == 1
    remains.release()


def test_a_tail_with_any_bit_flipped_is_counted(tmp_path: Path) -> None:
    """The records before it are whole, and everything is accounted for."""
    path = left(tmp_path, RECORDS)
    file = segment_path(path, 0)
    whole = file.read_bytes()
    last = len(segments_frame(3, wire.encode(RECORDS[3])))
    for bit in range((len(whole) - last) * 8, len(whole) * 8):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        remains = claimed(path)
        rows = stream(remains)
        assert [one for _, one in rows[:3]] == RECORDS[:3]
        assert isinstance(rows[3][1], wire.Gap)
        assert rows[3][1].count == 1
        assert isinstance(rows[4][1], wire.Notice)
        assert len(rows) == 5
        remains.release()


def test_what_the_disk_lost_and_the_server_has_is_not_lost(tmp_path: Path) -> None:
    """The epilogue is numbered behind what the server has."""
    path = left(tmp_path, RECORDS)
    file = segment_path(path, 0)
    file.write_bytes(file.read_bytes()[:-3])
    ((seq, record),) = ends(path, committed=9)
    assert seq == 10
    assert isinstance(record, wire.Notice)


def test_what_a_restored_server_lacks_is_not_told_by_who_never_had_it(tmp_path: Path) -> None:
    """A server had more than there is here, of the owner itself; the owner may still hold it, so no gap covers it."""
    remains = claimed(left(tmp_path, RECORDS), committed=9)
    assert remains.next == 10
    remains.welcome(1)
    assert remains.next == 4
    assert [seq for seq, _ in stream(remains, 2)] == [2, 3, 4]
    remains.release()


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        ([], "unknown"),
        (["delivered"], "unknown"),
        (["delivered", "applied"], "unknown"),
        (["delivered", "applied", "verified"], None),
        (["refused"], None),
        (["delivered", "failed"], None),
    ],
)
def test_a_command_that_was_taken_and_not_ended_is_unknown(
    tmp_path: Path, states: list[wire.CommandState], outcome: str | None
) -> None:
    """It is never applied again; what was applied for certain is said."""
    path = left(tmp_path, [*RECORDS, *map(update, states), wire.Lifecycle(step=1, time=1e6, state="failed")])
    (path / "journal").write_text(json.dumps({"id": "c", "action": "sanitize", "time": 1.0}) + '\n{"id": "torn')
    rows = ends(path)
    if outcome is None:
        assert rows == []
        return
    ((_, record),) = rows
    assert isinstance(record, wire.CommandUpdate)
    assert (record.id, record.state, record.step) == ("c", outcome, 1)
    assert "will not be applied again" in record.reason
    assert ("was applied and not verified" in record.reason) == ("applied" in states)


def test_many_commands_fit_into_one_batch(tmp_path: Path) -> None:
    """The newest are told of."""
    path = left(tmp_path, RECORDS)
    (path / "journal").write_text("".join(json.dumps({"id": f"c{number}"}) + "\n" for number in range(600)))
    remains = claimed(path)
    reader = remains.reader()
    reader.seek(4)
    batch = reader.batch()
    reader.close()
    assert batch is not None
    assert len(batch.records) <= wire.MAX_BATCH_RECORDS
    assert sum(map(len, batch.records)) <= wire.MAX_BATCH_BYTES
    assert wire.decode_record(batch.records[-2]).id == "c599"  # type: ignore[union-attr]
    remains.release()


def test_a_process_that_wrote_nothing_needs_no_word(tmp_path: Path) -> None:
    """No server knows of it."""
    path = left(tmp_path, [])
    assert ends(path) == []


def test_what_is_delivered_goes_and_what_was_refused_stays(tmp_path: Path) -> None:
    """A quarantine is evidence, and so is a failing batch."""
    path = left(tmp_path, RECORDS)
    (path / "batch-0000000001.pt").write_bytes(b"x")
    (path / ".00000000000000000000.thin").write_bytes(b"left by a kill")
    remains = claimed(path)
    remains.set_aside(3, "bad")
    remains.set_aside(3, "bad")
    remains.acknowledge(remains.next - 1)
    remains.remove()
    assert {one.name for one in path.iterdir()} == {"quarantine", "batch-0000000001.pt"}
    ((seq, aside),) = quarantine.read(path)
    assert (seq, aside.reason, wire.decode_record(aside.record)) == (3, "bad", RECORDS[3])
    assert remains.quarantined == 1


def test_a_folder_whose_identity_is_spoiled_is_no_spool(tmp_path: Path) -> None:
    """It is said, and nothing is touched."""
    path = left(tmp_path, RECORDS)
    (path / "identity").write_bytes(b"\xc1")
    with pytest.raises(msgspec.DecodeError):
        take(path)


def test_a_living_spool_keeps_its_quarantine_when_it_is_closed(tmp_path: Path) -> None:
    """And nothing else, once everything is delivered."""
    spool = Spool(tmp_path / "spool/r/p", identity())
    append(spool, *RECORDS)
    spool.set_aside(2, "bad")
    spool.acknowledge(3)
    spool.close()
    assert [one.name for one in spool.path.iterdir()] == ["quarantine"]


def test_a_quarantine_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that refuses everything fills no disk, and no log; what it refused is counted."""
    monkeypatch.setattr(quarantine, "LIMIT_BYTES", 200)
    spool = Spool(tmp_path / "spool/r/p", identity())
    append(spool, *map(notice, range(20)))
    for seq in range(20):
        spool.set_aside(seq, "never")
    assert spool.quarantined == 20
    assert 1 <= len(quarantine.read(spool.path)) < 5
    assert (spool.path / quarantine.NAME).stat().st_size <= 200
    assert sum("could not be kept in the quarantine" in one.message for one in caplog.records) == 1
    spool.close()
