"""What a spool keeps under its cap: acknowledged records while there is room, events always, and exact counts."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spools import accounted, append, frame, identity, layout, left, notice, stream
from trainvitals import wire
from trainvitals.delivery import retention, thinning
from trainvitals.delivery.retention import SpoolFullError, given_cap
from trainvitals.delivery.segments import segment_path, starts
from trainvitals.delivery.spool import Spool
from trainvitals.errors import ConfigurationError

CAP = 64 << 10
SEGMENT = CAP // 8


def size(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "spool").rglob("*") if path.is_file())


def fill(spool: Spool, steps: int, every: int = 50, first: int = 0) -> int:
    """Frames of 400 bytes, and an event at every so many; how many events."""
    for step in range(first, first + steps):
        append(spool, frame(step, 400))
        if step % every == 0:
            append(spool, notice(step))
    return len(range(-(-first // every) * every, first + steps, every))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "spool/r/p", identity(), cap=CAP)
    append(made, layout(100))
    return made


def test_hours_without_a_server_stay_within_the_cap_and_one_segment(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Thirty times the cap: every event is kept, the newest frames too, and what was lost is counted to the record."""
    biggest = events = 0
    for turn in range(40):
        events += fill(spool, 125, first=125 * turn)
        biggest = max(biggest, size(tmp_path))
    assert biggest <= CAP + SEGMENT
    rows = stream(spool)
    assert accounted(rows) == spool.next == 5000 + events + 1
    records = [record for _, record in rows]
    assert records[0] == layout(100)
    assert [one for one in records if isinstance(one, wire.Notice)] == [notice(step) for step in range(0, 5000, 50)]
    steps = [one.step for one in records if isinstance(one, wire.Frame)]
    assert steps == list(range(steps[0], 5000))
    gaps = [one for one in records if isinstance(one, wire.Gap)]
    assert sum(gap.count for gap in gaps) == 5000 - len(steps) == spool.retention.lost
    assert len(caplog.records) == 1, "it is said once"
    assert {gap.reason for gap in gaps} == {f"the spool reached its cap of {CAP} bytes while no server took records"}
    assert (gaps[0].first_step, gaps[0].since) == (0, 1e6)
    assert len(steps) * 420 > CAP / 3, "room that is there is used"


def test_without_events_a_long_outage_is_one_gap(spool: Spool) -> None:
    """Neighbouring gaps are merged, so that there are few files, however long it takes."""
    fill(spool, 5000, every=10_000)
    gaps = [(seq, one) for seq, one in stream(spool) if isinstance(one, wire.Gap)]
    assert len(starts(spool.path)) < 2 * retention.UNITED + 8
    assert len(gaps) <= 2 * retention.UNITED
    longest = max((one for _, one in gaps), key=lambda one: one.count)
    assert longest.count > 3000
    assert (longest.last_step or 0) - (longest.first_step or 0) + 1 == longest.count


def test_what_the_server_has_goes_first(spool: Spool, tmp_path: Path) -> None:
    """It is kept as long as there is room, for a server that is restored from a backup; then nothing is thinned."""
    fill(spool, 100)
    assert starts(spool.path)[0] == 0
    spool.acknowledge(spool.next - 1)
    assert accounted(stream(spool)) == spool.next, "nothing has been deleted yet"
    for turn in range(20):
        fill(spool, 100, first=100 + 100 * turn)
        spool.acknowledge(spool.next - 1)
        assert size(tmp_path) <= CAP + SEGMENT
    rows = stream(spool, spool.first)
    assert spool.first > 1000
    assert accounted(rows, spool.first) == spool.next - spool.first
    assert not any(isinstance(one, wire.Gap) for _, one in rows)


def test_a_server_that_has_less_is_not_robbed_of_the_rest(spool: Spool) -> None:
    """After its welcome what it lacks counts as not acknowledged."""
    fill(spool, 100)
    spool.acknowledge(spool.next - 1)
    spool.welcome(10)
    fill(spool, 400, first=100)
    assert spool.first <= 11
    rows = stream(spool, 11)
    assert accounted(rows, rows[0][0]) == spool.next - rows[0][0]


def test_acknowledged_segments_of_ended_processes_go_too(spool: Spool, tmp_path: Path) -> None:
    """Those of living ones do not, nor what no server has, nor the last word of anyone."""
    records = [frame(step, 400) for step in range(60)]
    cut = retention.SEGMENT_BYTES
    try:
        retention.SEGMENT_BYTES = 4000
        dead = left(tmp_path, records, identity(producer="dead"), committed=40)
        alive = Spool(tmp_path / "spool/r/alive", identity(producer="alive"))
        for one in records:
            append(alive, one)
        alive.acknowledge(59)
        alive.sync()
    finally:
        retention.SEGMENT_BYTES = cut
    before = starts(alive.path)
    fill(spool, 300)
    assert starts(alive.path) == before
    assert starts(dead)[0] > 0
    assert starts(dead)[0] <= 41
    assert starts(dead)[-1] == before[-1]
    alive.close()


def test_a_reader_in_the_midst_of_a_thinned_file_reads_on(spool: Spool) -> None:
    """It has the old one open; every number is still accounted for, once."""
    fill(spool, 30)
    reader = spool.reader()
    reader.seek(0)
    rows: list[tuple[int, wire.Record]] = []
    for turn in range(200):
        fill(spool, 20, first=30 + 20 * turn)
        batch = reader.batch()
        assert batch is not None
        rows += [(batch.first + place, wire.decode_record(data)) for place, data in enumerate(batch.records)]
    while batch := reader.batch():
        rows += [(batch.first + place, wire.decode_record(data)) for place, data in enumerate(batch.records)]
    reader.close()
    assert accounted(rows) == spool.next
    kept = [one for _, one in rows if isinstance(one, wire.Notice)]
    assert kept == [notice(step) for step in range(0, 4030, 50)]


class KilledError(BaseException):
    """Here the process was killed."""


@pytest.mark.parametrize("place", ["write_all", "fsync", "replace", "unlink"])
def test_a_kill_in_the_midst_of_thinning_loses_nothing(
    place: str, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was on the disk at that moment, every number is accounted for; and the next one goes on."""

    def killed(*arguments: Any, **rest: Any) -> None:
        raise KilledError

    events = fill(spool, 1000)
    with monkeypatch.context() as patch:
        owner, name = {
            "write_all": (thinning, "write_all"),
            "fsync": (os, "fsync"),
            "replace": (Path, "replace"),
            "unlink": (Path, "unlink"),
        }[place]
        patch.setattr(owner, name, killed)
        with pytest.raises(KilledError):
            fill(spool, 3000, every=10_000, first=1001)
    rows = stream(spool)
    assert accounted(rows) == spool.next > 1000 + events
    assert sum(isinstance(one, wire.Notice) for _, one in rows) == events


def test_a_spool_of_events_alone_takes_no_more_than_it_may(spool: Spool, tmp_path: Path) -> None:
    """They are never thinned; what comes then is kept back in memory, see `test_intake.py`."""

    def flood() -> None:
        for step in range(1000):
            append(spool, notice(step, "x" * 200))

    with pytest.raises(SpoolFullError, match=f"at most {CAP} bytes"):
        flood()
    assert CAP - SEGMENT < size(tmp_path) <= CAP + SEGMENT
    taken = spool.next
    spool.acknowledge(taken - 1)
    append(spool, notice(1000))
    assert spool.next == taken + 1


def test_a_neighbour_that_goes_away_under_the_search_is_none_of_our_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server recovers what dead processes left, and removes it, whenever it likes: what is recorded then is written
    all the same."""
    spool = Spool(tmp_path / "spool/r/p", identity(), cap=CAP)
    gone = left(tmp_path, [frame(0)], identity(run="gone")).parent
    listing = os.scandir

    def removing(path: Any) -> Any:
        if path == os.fspath(gone) or path == gone:
            monkeypatch.undo()
            shutil.rmtree(gone)
        return listing(path)

    monkeypatch.setattr(os, "scandir", removing)
    append(spool, layout(100))
    assert not gone.exists()
    assert spool.next == 1


def test_another_spool_that_fills_the_directory_leaves_room_for_the_newest_frames(tmp_path: Path) -> None:
    """Nobody may thin what a killed process left; one segment and the events of the new one are always taken."""
    left(tmp_path, [frame(step, 4000) for step in range(30)], identity(producer="dead"))
    spool = Spool(tmp_path / "spool/r/p", identity(), cap=CAP)
    events = fill(spool, 1000)
    rows = stream(spool)
    assert accounted(rows) == spool.next == 1000 + events
    assert rows[-1][1] == frame(999, 400)
    assert sum(isinstance(one, wire.Frame) for _, one in rows) >= 10


def test_a_thinned_segment_that_was_damaged_says_so(spool: Spool) -> None:
    """Its own reason beside that of the cap."""
    fill(spool, 100)
    path = segment_path(spool.path, starts(spool.path)[1])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    fill(spool, 1000, first=100)
    rows = stream(spool)
    assert accounted(rows) == spool.next
    assert len({one.reason for _, one in rows if isinstance(one, wire.Gap)}) == 2


@pytest.mark.parametrize("text", ["10", "many", "-1", "1e9"])
def test_a_cap_that_is_no_number_of_bytes_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what came."""
    monkeypatch.setenv("TRAINVITALS_SPOOL_BYTES", text)
    with pytest.raises(ConfigurationError, match=f"expected a number of bytes of at least 65536, got '{text}'"):
        given_cap()


def test_the_cap_can_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment; without it, the disk decides."""
    assert given_cap() is None
    monkeypatch.setenv("TRAINVITALS_SPOOL_BYTES", "1000000")
    assert given_cap() == 1_000_000


def test_by_default_a_twentieth_of_the_free_disk_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And never more than 256 MiB."""
    for free, limit in ((20 << 20, 1 << 20), (1 << 50, 256 << 20)):
        monkeypatch.setattr(retention.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        spool = Spool(tmp_path / f"{free}/r/p", identity())
        append(spool, notice(0))
        assert spool.retention._limit == limit
        spool.close()
