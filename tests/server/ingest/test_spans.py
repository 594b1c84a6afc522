"""A gap that stands for several numbers: it moves the watermark to its end, once, whatever was committed before."""

import msgspec
import pytest

from served import Served, Speaker, frame, layout
from trainvitals import wire

LOSS = layout(("", wire.RUN, wire.LOSS))


def gap(seq: int, through: int) -> wire.Gap:
    """What a spool puts in the place of records `seq` to `through`."""
    count = through - seq + 1
    return wire.Gap(count=count, reason="the spool reached its cap", since=1e6, until=1e6, through=through)


def dropped(served: Served) -> int:
    """Records that the server knows to be lost."""
    (producer,) = served.get("/api/runs/run-1")["producers"]
    return int(producer["dropped"])


def gaps(served: Served) -> list[dict[str, int]]:
    """What the stored gaps say."""
    return [one["data"] for one in served.get("/api/runs/run-1/events", type="gap")["events"]]


def begin(trainer: Speaker) -> None:
    """Number 0 is the layout, 1 to 3 are frames."""
    trainer.hello()
    trainer.store(LOSS, *[frame(step, [1.0]) for step in range(3)])


def test_the_stream_goes_on_behind_the_end_of_the_gap(served: Served) -> None:
    """And the gap counts what was lost."""
    with served.trainer() as trainer:
        begin(trainer)
        trainer.send(frame(3, [1.0]), gap(5, 90), first=4)
        assert trainer.hear(wire.Ack).seq == 90
        trainer.send(frame(90, [1.0]), first=91)
        assert trainer.hear(wire.Ack).seq == 91
    assert dropped(served) == 86
    assert [(one["count"], one["through"]) for one in gaps(served)] == [(86, 90)]


@pytest.mark.parametrize("first", [2, 4])
def test_what_was_committed_of_a_gap_is_not_lost(served: Served, first: int) -> None:
    """Numbers up to 3 came as records before the trainer replaced them; only the rest is counted."""
    with served.trainer() as trainer:
        begin(trainer)
        trainer.send(*[frame(step, [1.0]) for step in range(1, first - 1)], gap(first, 9), first=2)
        assert trainer.hear(wire.Ack).seq == 9
        trainer.send(gap(first, 9), first=first)
        assert trainer.hear(wire.Ack).seq == 9
    assert dropped(served) == 6
    assert len(gaps(served)) == 1


@pytest.mark.parametrize("claimed", [0, 3, 1 << 40])
def test_a_gap_counts_all_the_numbers_it_stands_for(served: Served, claimed: int) -> None:
    """Whatever it says: each number is stored, set aside, or counted."""
    with served.trainer() as trainer:
        begin(trainer)
        trainer.send(msgspec.structs.replace(gap(4, 13), count=claimed), first=4)
        assert trainer.hear(wire.Ack).seq == 13
    assert dropped(served) == 10
    assert served.get("/api/runs/run-1")["lost"]["records"] == 10


def test_a_gap_in_the_midst_of_a_batch_is_set_aside(served: Served) -> None:
    """Which numbers would the records behind it have?"""
    with served.trainer() as trainer:
        begin(trainer)
        trainer.send(gap(4, 9), frame(3, [1.0]), first=4)
        nack = trainer.hear(wire.Nack)
        assert (nack.kind, nack.seq) == ("permanent", 4)
        assert "at the end of its batch" in nack.reason
        assert trainer.hear(wire.Ack).seq == 5
    assert dropped(served) == 0


@pytest.mark.parametrize("through", [3, -1, wire.MAX_SEQUENCE, 1 << 60])
def test_a_gap_that_ends_before_it_begins_or_never_is_set_aside(served: Served, through: int) -> None:
    """The watermark moves past the record alone."""
    with served.trainer() as trainer:
        begin(trainer)
        trainer.send(msg := gap(4, through), first=4)
        assert msg.through == through
        nack = trainer.hear(wire.Nack)
        assert (nack.kind, nack.seq) == ("permanent", 4)
        assert trainer.hear(wire.Ack).seq == 4
        trainer.send(msg, first=4)
        assert trainer.hear(wire.Ack).seq == 4
