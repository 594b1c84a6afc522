"""The ranks of a run, compared: the same is found however their records were cut and interleaved."""

import math
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from served import Served, Speaker, frame, layout, until
from trainvitals import wire
from trainvitals_server.ingest import comparing

VARIANCE = wire.VAR_MAX + wire.COMPARED
NORM = wire.WEIGHT_NORM + wire.COMPARED
LOSS = ("", wire.RUN, wire.LOSS)
STATISTICS = [("bn1", wire.NORM, VARIANCE), ("bn2", wire.NORM, VARIANCE)]
WEIGHTS = [("conv.weight", wire.PARAMETER, NORM)]
STEPS = 40


@contextmanager
def ranks(served: Served, size: int = 2, run: str = "run-1", **identity: Any) -> Iterator[list[Speaker]]:
    """Trainers of one launch that have said hello."""
    with ExitStack() as stack:
        found = []
        for rank in range(size):
            who = {"producer": f"p-{rank}", "rank": rank, "world_size": size, "launch": "l-1", **identity}
            found.append(stack.enter_context(served.trainer(run, **who)))
            found[-1].hello()
        yield found


def alerts(served: Served, run: str = "run-1") -> list[dict[str, Any]]:
    """What rule 27 alarmed of, by layer; without when and under which number it was stored."""
    found = [one for one in served.get("/api/alerts")["alerts"] if (one["run"], one["rule"]) == (run, RULE)]
    told = ("layer", "rank", "status", "severity", "first_step", "last_step", "count", "value", "text")
    return sorted(({name: one[name] for name in told} for one in found), key=lambda one: str(one["layer"]))


RULE = "rank_disagreement"


def records(rank: int) -> list[wire.Message]:
    """What one of three ranks tells in 40 steps: the second rank's variance leaves the others' for ten of them, the
    third's weights go their own way from the twentieth on, and has no statistics of every seventh."""
    told: list[wire.Message] = [layout(LOSS), layout(*STATISTICS, number=2), layout(*WEIGHTS, number=3)]
    for step in range(1, STEPS + 1):
        told.append(frame(step, [0.5]))
        if rank != 2 or step % 7:
            far = rank == 1 and 10 <= step < 20
            told.append(frame(step, [200.0 + step if far else 1.0 + rank / 4, math.nan if far else 1.0], 2))
        told.append(frame(step, [2.5 if rank == 2 and step >= 20 else 2.0], 3))
    return told


def speak(speakers: list[Speaker], dice: random.Random) -> None:
    """All that the ranks have to say, in batches of any size, each rank's in order and the ranks in any."""
    left = [records(rank) for rank in range(len(speakers))]
    while any(left):
        rank = dice.choice([rank for rank, told in enumerate(left) if told])
        count = dice.choice([1, 1, 2, 5, 20, len(left[rank])])
        speakers[rank].store(*left[rank][:count])
        left[rank] = left[rank][count:]


def apart(served: Served, stat: str, run: str = "run-1") -> dict[int, Any]:
    """How far the ranks are apart, by step; nothing where there is no such series yet."""
    found = [one["id"] for one in served.get(f"/api/runs/{run}/series")["series"] if one["stat"] == stat]
    if not found:
        return {}
    data = served.get(f"/api/runs/{run}/data", series=str(found[0]), points=4000)["series"][0]
    return dict(zip(data["step"], data["first"], strict=True))


def test_a_rank_that_goes_its_own_way_is_named(served: Served) -> None:
    """With layer, value and the others' range, once all ranks have told two such steps; and it is over once they agree
    again."""
    with ranks(served, 3) as (one, two, three):
        for speaker in (one, two):
            speaker.store(layout(*STATISTICS), *[frame(step, [1.0, 1.0]) for step in range(9)])
        three.store(layout(*STATISTICS), *[frame(step, [80.0 if step >= 4 else 2.0, 1.0]) for step in range(5)])
        assert alerts(served) == [], "once is not enough"
        three.store(frame(5, [80.0, 1.0]))
        (found,) = alerts(served)
        assert (found["layer"], found["status"], found["severity"]) == ("bn1", "firing", "warning")
        assert (found["first_step"], found["value"], found["rank"]) == (5, 80, 0)
        assert (
            "Rank 2's largest running variance of bn1 is 80 at step 5, the others' 1 (limit 64 times" in found["text"]
        )
        three.store(*[frame(step, [1.0, 1.0]) for step in range(6, 8)])
        assert [one["status"] for one in alerts(served)] == ["resolved"]
        assert apart(served, wire.STATISTICS_APART) == {0: 2, 1: 2, 2: 2, 3: 2, 4: 80, 5: 80, 6: 1, 7: 1}


def test_however_ranks_are_interleaved_the_alerts_are_the_same(shared: Served) -> None:
    """Their batches cut anywhere, a rank ahead of the others by any number of steps."""
    told = []
    for seed in range(8):
        with ranks(shared, 3, run=f"mixed-{seed}") as speakers:
            speak(speakers, random.Random(seed))
            told.append((alerts(shared, f"mixed-{seed}"), apart(shared, wire.WEIGHTS_APART, f"mixed-{seed}")))
    assert all(one == told[0] for one in told)
    found, distances = told[0]
    assert [(one["layer"], one["first_step"], one["last_step"], one["status"], one["severity"]) for one in found] == [
        ("bn1", 11, 22, "resolved", "warning"),
        ("bn2", 11, 22, "resolved", "critical"),
        ("conv.weight", 21, 21, "firing", "critical"),
    ]
    assert "Rank 2's norm of conv.weight is 2.5 at step 21, the others' 2 " in found[2]["text"]
    assert distances == {step: 1.25 if step >= 20 else 1 for step in range(1, STEPS + 1)}


def test_a_rank_that_is_gone_is_waited_for(served: Served) -> None:
    """What the others tell meanwhile is nobody's disagreement; when it comes back they are compared in order."""
    with ranks(served) as (one, two):
        one.store(layout(*STATISTICS), *[frame(step, [1.0, 1.0]) for step in range(10)])
        two.store(layout(*STATISTICS), *[frame(step, [1.0, 1.0]) for step in range(2)])
    books = served.service.parts.books
    until(lambda: not books.comparisons and not books._sheets)
    assert list(apart(served, wire.STATISTICS_APART)) == [0, 1]
    with ranks(served) as (one, two):
        two.store(*[frame(step, [80.0, 1.0]) for step in range(2, 6)])
        assert [(one["layer"], one["first_step"], one["count"]) for one in alerts(served)] == [("bn1", 3, 1)]
        assert list(apart(served, wire.STATISTICS_APART)) == [0, 1, 2, 3, 4, 5]


def test_it_goes_on_where_a_server_that_ended_had_stopped(private_home: Path) -> None:
    """One step beyond the others before, one after: that is two in a row, found once."""
    with Served(private_home) as served, ranks(served) as (one, two):
        one.store(layout(*STATISTICS), *[frame(step, [1.0, 1.0]) for step in range(4)])
        two.store(layout(*STATISTICS), frame(0, [1.0, 1.0]), frame(1, [80.0, 1.0]))
        assert alerts(served) == []
    with Served(private_home) as served, ranks(served) as (one, two):
        two.store(frame(2, [80.0, 1.0]))
        assert [(one["first_step"], one["count"]) for one in alerts(served)] == [(2, 1)]
        two.store(frame(3, [80.0, 1.0]))
        assert [(one["first_step"], one["count"]) for one in alerts(served)] == [(2, 1)]


def test_what_not_every_rank_tells_is_not_compared(served: Served) -> None:
    """A layer that one of them lacks, a value that is absent, and ranks of different launches."""
    with ranks(served) as (one, two):
        one.store(layout(*STATISTICS), *[frame(step, [1.0, 1.0]) for step in range(3)])
        two.store(layout(STATISTICS[1]), *[frame(step, [None if step == 1 else 3.0]) for step in range(3)])
        assert apart(served, wire.STATISTICS_APART) == {0: 3, 2: 3}
    with ranks(served, run="other") as (one, two):
        one.store(layout(STATISTICS[0]), frame(0, [1.0]))
        two.store(layout(STATISTICS[1]), frame(0, [1.0]))
        assert apart(served, wire.STATISTICS_APART, "other") == {}
    with ranks(served, run="third", launch="") as (one, two):
        for speaker in (one, two):
            speaker.store(layout(*STATISTICS), frame(0, [1.0, 1.0]))
        assert apart(served, wire.STATISTICS_APART, "third") == {}


def test_layers_that_come_in_mid_run_are_compared_from_then_on(served: Served) -> None:
    """And the others go on where they were: the step before and the step after are two in a row."""
    with ranks(served) as (one, two):
        one.store(layout(STATISTICS[0]), frame(0, [1.0]), frame(1, [1.0]))
        two.store(layout(STATISTICS[0]), frame(0, [1.0]), frame(1, [80.0]))
        for speaker, value in ((one, 1.0), (two, 80.0)):
            speaker.store(layout(*STATISTICS, number=2), *[frame(step, [value, value], 2) for step in (2, 3)])
        assert [(one["layer"], one["first_step"]) for one in alerts(served)] == [("bn1", 2), ("bn2", 3)]


def test_much_at_once_is_compared_in_portions(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a rank that comes very late costs no memory."""
    monkeypatch.setattr(comparing, "READ_VALUES", 12)
    with ranks(served) as (one, two):
        for speaker, value in ((one, 1.0), (two, 2.0)):
            speaker.store(layout(*STATISTICS), *[frame(step, [1.0, value]) for step in range(40)])
        assert apart(served, wire.STATISTICS_APART) == dict.fromkeys(range(40), 2)
