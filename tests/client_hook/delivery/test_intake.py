"""What goes wrong between queue and spool is counted, said, and repaired where it can be."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from loops import spooled
from trainvitals import wire
from trainvitals.delivery import spool as spool_module
from trainvitals.delivery.intake import LIMIT, Intake
from trainvitals.delivery.outbox import Outbox
from trainvitals.delivery.spool import Spool

IDENTITY = wire.Identity(run="r", producer="p", name="n")
LAYOUT = wire.Layout(id=0, offset=0, total=1, series=[wire.Series(0, "", "run", "loss")])


def notice(i: int, text: Any = "") -> wire.Notice:
    return wire.Notice(step=i, time=0.0, code="n", text=text)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "s/r/p", IDENTITY)


@pytest.mark.parametrize("bad", [notice(1, object()), notice(1, "x" * LIMIT)], ids=["unencodable", "too large"])
def test_one_bad_record_spoils_no_other(
    bad: wire.Notice, outbox: Outbox, spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    """It becomes a gap of one, with the reason, and is counted."""
    intake = Intake(outbox, spool)
    for record in (notice(0), bad, notice(2)):
        outbox.put(record)
    assert intake.run()
    gap, *others = spooled(spool.path)
    assert isinstance(gap, wire.Gap)
    assert gap.count == 1
    assert "Notice" in gap.reason
    assert others == [notice(0), notice(2)]
    assert outbox.dropped == 1
    assert "records are being lost" in caplog.text
    spool.close()


def no_space(descriptor: int, data: bytes) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def frame(step: int) -> wire.Frame:
    return wire.Frame(layout=0, step=step, time=float(step), values=bytes(936))


def test_while_the_disk_is_full_records_wait_in_memory(
    outbox: Outbox, spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In order, with what came since, and nothing is lost. It is said once, and once that it is over."""
    intake = Intake(outbox, spool)
    with monkeypatch.context() as full:
        full.setattr(spool_module, "write_all", no_space)
        for place in range(3):
            outbox.put(notice(place))
            assert not intake.run()
            assert intake.waiting
    outbox.put(notice(3))
    assert intake.run()
    assert not intake.waiting
    assert spooled(spool.path) == [notice(place) for place in range(4)]
    assert outbox.dropped == 0
    assert len(caplog.records) == 2
    assert "No space left on device" in caplog.text
    spool.close()


def test_what_memory_cannot_hold_meanwhile_is_a_counted_gap(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames only: layouts and events stay, and however long it takes, memory is bounded."""
    outbox = Outbox(limit=100_000)
    intake = Intake(outbox, spool)
    with monkeypatch.context() as full:
        full.setattr(spool_module, "write_all", no_space)
        outbox.put(LAYOUT)
        for step in range(500):
            outbox.put(frame(step))
            assert not intake.run()
        outbox.put(notice(500))
    assert intake.run()
    layout, *records = spooled(spool.path)
    assert layout == LAYOUT
    *frames, gap, last = records
    assert [one.step for one in frames if isinstance(one, wire.Frame)] == list(range(len(frames)))
    assert isinstance(gap, wire.Gap)
    assert (gap.count, gap.first_step, gap.last_step) == (500 - len(frames), len(frames), 499)
    assert "No space left on device" in gap.reason
    assert 90 <= len(frames) <= 100
    assert last == notice(500)
    assert outbox.dropped == gap.count
    spool.close()


def test_what_still_waits_at_the_end_is_counted(outbox: Outbox, spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk never healed."""
    intake = Intake(outbox, spool)
    monkeypatch.setattr(spool_module, "write_all", no_space)
    for step in range(3):
        outbox.put(frame(step))
    assert not intake.run()
    intake.give_up()
    assert outbox.dropped == 3
    spool.close()


def test_a_disk_that_cannot_confirm_is_told_once(
    outbox: Outbox, spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the log and in the run; what follows goes into another file, since a later sync says nothing of the first."""
    intake = Intake(outbox, spool)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda descriptor: no_space(descriptor, b""))
        for place in range(3):
            outbox.put(notice(place))
            intake.run()
            intake.sync()
    assert spool.unsynced == 3
    assert len(caplog.records) == 1
    assert len(list(spool.path.glob("*.seg"))) == 3
    intake.run()
    told = [one for one in spooled(spool.path) if isinstance(one, wire.Notice) and one.code == "unsynced"]
    assert len(told) == 1
    assert "up to record 0" in told[0].text
    spool.close()


@pytest.mark.parametrize(
    ("record", "urgent"),
    [
        (wire.NonFinite(step=0, time=0.0, layer="l", signal="gradient", kind="nan"), True),
        (wire.Checkpoint(step=0, time=0.0, outcome="refused", path="p"), True),
        (wire.Checkpoint(step=0, time=0.0, outcome="saved", path="p"), False),
        (wire.HealthCheck(step=0, time=0.0, origin="health", healthy=False), True),
        (wire.HealthCheck(step=0, time=0.0, origin="health", healthy=True), False),
        (wire.Lifecycle(step=0, time=0.0, state="failed"), True),
        (frame(0), False),
    ],
)
def test_what_is_serious_is_put_on_the_disk_at_once(
    record: wire.Record, urgent: bool, outbox: Outbox, spool: Spool
) -> None:
    """The rest follows within half a second."""
    intake = Intake(outbox, spool)
    outbox.put(record)
    intake.run()
    assert intake.urgent == urgent
    intake.sync()
    assert not intake.urgent
    spool.close()
