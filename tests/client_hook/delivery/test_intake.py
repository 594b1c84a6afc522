"""What goes wrong between queue and spool is counted, said, and repaired where it can be."""

from pathlib import Path
from typing import Any

import pytest

from loops import spooled
from trainvitals import wire
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
    return Spool(tmp_path / "s", IDENTITY)


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


def test_what_a_full_disk_swallowed_is_a_gap_and_layouts_are_not_lost(outbox: Outbox, spool: Spool) -> None:
    """Later frames could not be read without them; earlier gaps are counted on."""
    intake = Intake(outbox, spool)
    cap, spool._cap = spool._cap, 0
    outbox.put(LAYOUT)
    outbox.put(wire.Gap(count=7, reason="the queue was full", since=0.0, until=1.0))
    outbox.put(notice(0))
    assert not intake.run()
    spool._cap = cap
    outbox.put(notice(1))
    assert intake.run()
    gap, *others = spooled(spool.path)
    assert isinstance(gap, wire.Gap)
    assert gap.count == 8
    assert others == [LAYOUT, notice(1)]
    spool.close()
