"""The flight recorder: what was written comes back, and what is torn is never read."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainvitals import wire
from trainvitals.delivery import retention
from trainvitals.delivery import spool as spool_module
from trainvitals.delivery.reading import SpoolReader
from trainvitals.delivery.segments import frame, segment_path
from trainvitals.delivery.spool import Spool

IDENTITY = wire.Identity(run="r", producer="p", name="n")


def read(path: Path, seq: int = 0) -> list[tuple[int, bytes]]:
    reader = SpoolReader(path)
    reader.seek(seq)
    rows: list[tuple[int, bytes]] = []
    while batch := reader.batch():
        rows += [(batch.first + i, record) for i, record in enumerate(batch.records)]
    reader.close()
    return rows


@given(chunks=st.lists(st.lists(st.binary(max_size=40), min_size=1, max_size=5), max_size=12), seq=st.integers(0, 70))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_what_is_written_is_read_from_any_number_on(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[bytes]], seq: int
) -> None:
    """In order, numbered without gaps, across segments."""
    spool = Spool(tmp_path_factory.mktemp("s") / "spool/r/p", IDENTITY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retention, "SEGMENT_BYTES", 200)
        for chunk in chunks:
            spool.append(chunk)
    written = list(enumerate(payload for chunk in chunks for payload in chunk))
    assert read(spool.path, seq) == written[seq:]
    spool.close()


def test_a_reader_follows_the_tail(tmp_path: Path) -> None:
    """What is appended later is read later, by the same reader."""
    spool, reader = Spool(tmp_path / "s/r/p", IDENTITY), SpoolReader(tmp_path / "s/r/p")
    reader.seek(0)
    assert reader.batch() is None
    for i in range(3):
        spool.append([b"%d" % i])
        assert reader.batch() == wire.Batch(first=i, records=[b"%d" % i])
        assert reader.batch() is None
    reader.seek(1)
    assert reader.batch() == wire.Batch(first=1, records=[b"1", b"2"])
    reader.close()
    spool.close()


def test_a_batch_keeps_its_limits(tmp_path: Path) -> None:
    """At most so many records, and so many bytes; a record larger than a batch still goes, alone."""
    spool, reader = Spool(tmp_path / "s/r/p", IDENTITY), SpoolReader(tmp_path / "s/r/p")
    spool.append([b"x"] * 700 + [bytes(200_000)] * 2 + [bytes(300_000)])
    reader.seek(0)
    sizes = []
    while batch := reader.batch():
        sizes.append(len(batch.records))
    assert sizes == [500, 201, 1, 1]
    reader.close()
    spool.close()


def test_a_torn_tail_is_cut_at_every_byte(tmp_path: Path) -> None:
    """Whatever a crash leaves of the last record, the records before it are whole."""
    spool = Spool(tmp_path / "s/r/p", IDENTITY)
    spool.append([b"one", b"two"])
    spool.close()
    file = segment_path(spool.path, 0)
    whole = file.read_bytes()
    for length in range(len(frame(0, b"one")), len(whole)):
        file.write_bytes(whole[:length])
        assert read(spool.path) == [(0, b"one")]


def test_a_flipped_bit_is_never_read(tmp_path: Path) -> None:
    """The checksum covers number and payload; a wrong length runs into it too."""
    spool = Spool(tmp_path / "s/r/p", IDENTITY)
    spool.append([b"one", b"two"])
    spool.close()
    file = segment_path(spool.path, 0)
    whole = file.read_bytes()
    start = len(frame(0, b"one"))
    for bit in range(start * 8, len(whole) * 8):
        torn = bytearray(whole)
        torn[bit // 8] ^= 1 << bit % 8
        file.write_bytes(torn)
        assert read(spool.path) == [(0, b"one")]


def test_files_are_the_owners_alone(tmp_path: Path) -> None:
    """What a run holds is nobody else's business."""
    spool = Spool(tmp_path / "s/r/p", IDENTITY)
    spool.append([b"x"])
    spool.sync()
    spool.set_aside(0, "bad")
    assert {path.name for path in spool.path.iterdir()} >= {"identity", "lock", "quarantine"}
    assert {path.stat().st_mode & 0o777 for path in spool.path.iterdir()} == {0o600}
    assert spool.path.stat().st_mode & 0o777 == 0o700
    spool.close()


def test_half_a_write_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after it is readable."""
    spool = Spool(tmp_path / "s/r/p", IDENTITY)
    spool.append([b"one"])

    def half(descriptor: int, data: bytearray) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(spool_module, "write_all", half)
        with pytest.raises(OSError, match="no space"):
            spool.append([b"two"])
    spool.append([b"three"])
    assert read(spool.path) == [(0, b"one"), (1, b"three")]
    spool.close()


def test_a_segment_that_cannot_be_opened_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor is closed that may be another file's by then."""
    monkeypatch.setattr(retention, "SEGMENT_BYTES", 10)
    spool = Spool(tmp_path / "s/r/p", IDENTITY)
    spool.append([b"one" * 5])

    def none_left(*given: object) -> int:
        raise OSError("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", none_left)
        with pytest.raises(OSError, match="too many"):
            spool.append([b"two"])
    spool.append([b"three"])
    assert read(spool.path) == [(0, b"one" * 5), (1, b"three")]
    spool.close()


def test_a_spool_the_server_has_is_removed_when_it_is_closed(tmp_path: Path) -> None:
    """Disks fill up otherwise; one that it has not is kept."""
    for committed, left in ((0, True), (1, False)):
        spool = Spool(tmp_path / f"spool/run/p{committed}", IDENTITY)
        spool.append([b"one", b"two"])
        spool.acknowledge(committed)
        spool.close()
        assert spool.path.exists() == left


def test_a_folder_that_was_deleted_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next segment; what was in it is a gap, and training knows nothing of it."""
    monkeypatch.setattr(retention, "SEGMENT_BYTES", 50)
    spool = Spool(tmp_path / "s/r/p", IDENTITY)
    for i in range(3):
        spool.append([b"%d" % i * 60])
    shutil.rmtree(tmp_path / "s")
    spool.append([b"3"])
    reader = spool.reader()
    reader.seek(0)
    gap, rest = reader.batch(), reader.batch()
    reader.close()
    assert gap is not None
    assert (gap.first, gap.last) == (0, 2)
    assert rest == wire.Batch(first=3, records=[b"3"])
    spool.close()
