"""Norms of sharded parameters: added up over the ranks, and found where any other norm would be."""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from served import Served, Speaker, frame, layout
from trainvitals import wire
from trainvitals_server.store import checking

RUN = "/api/runs/run-1"
SQUARE = wire.GRAD_NORM + wire.SHARD
LOSS = ("", wire.RUN, wire.LOSS)
WEIGHT, BIAS = ("a.weight", wire.PARAMETER, SQUARE), ("a.bias", wire.PARAMETER, SQUARE)
TOTAL = ("", wire.RUN, SQUARE)
FIRST, OTHERS = layout(LOSS, WEIGHT, BIAS, TOTAL), layout(TOTAL, WEIGHT, BIAS)


@contextmanager
def ranks(served: Served, size: int = 2, **identity: Any) -> Iterator[list[Speaker]]:
    """Trainers of one launch that have said hello."""
    with ExitStack() as stack:
        found = []
        for rank in range(size):
            who = {"producer": f"p-{rank}", "rank": rank, "world_size": size, "launch": "l-1", **identity}
            found.append(stack.enter_context(served.trainer(**who)))
            found[-1].hello()
        yield found


def norms(served: Served, layer: str = "a.weight", kind: str = wire.PARAMETER, **query: Any) -> dict[int, Any]:
    """The true gradient norm of a layer, by step; nothing where there is no such series yet."""
    found = [one["id"] for one in served.get(f"{RUN}/series")["series"] if key(one) == (layer, kind, wire.GRAD_NORM)]
    if not found:
        return {}
    data = served.get(f"{RUN}/data", series=str(found[0]), points=4000, **query)["series"][0]
    return dict(zip(data["step"], data["first"], strict=True))


def key(one: dict[str, Any]) -> tuple[str, str, str]:
    return one["layer"], one["kind"], one["stat"]


def first(step: int, weight: float | None, bias: float = 0.0) -> wire.Frame:
    """Rank 0's frame."""
    return frame(step, [0.5, weight, bias, (weight or 0.0) + bias])


def other(step: int, weight: float | None, bias: float = 0.0) -> wire.Frame:
    """Another rank's."""
    return frame(step, [(weight or 0.0) + bias, weight, bias])


def test_the_root_of_the_sum_is_the_norm(served: Served) -> None:
    """Of each parameter and of all; as data, as of a step, and in no other rank's data."""
    with ranks(served) as (one, two):
        one.store(FIRST, *[first(step, 9.0, 1.0) for step in range(3)])
        assert norms(served) == {}, "no sum is told before all of it is known"
        two.store(OTHERS, *[other(step, 16.0, 3.0) for step in range(3)])
        assert norms(served) == {0: 5, 1: 5, 2: 5}
        assert norms(served, "a.bias") == {0: 2, 1: 2, 2: 2}
        assert norms(served, "", wire.RUN)[0] == pytest.approx(math.sqrt(29))
        assert norms(served, rank=1) == {}
        names = {one["id"]: key(one) for one in served.get(f"{RUN}/series")["series"]}
        now = {names[int(one)]: value for one, value in served.get(f"{RUN}/at", step=1)["values"].items()}
        assert now["a.weight", wire.PARAMETER, wire.GRAD_NORM] == 5
        assert now[LOSS] == 0.5
    path = served.service.settings.database
    assert checking.check(path, lambda done, total: None) == checking.Found(1, []), "sums are no frames of a trainer's"


def test_late_ranks_still_count(served: Served) -> None:
    """In whatever order and however the records were cut, each step is told once all of it is there."""
    with ranks(served, 3) as (one, two, three):
        three.store(OTHERS, *[other(step, 4.0) for step in range(6)])
        one.store(FIRST, *[first(step, 1.0) for step in range(3)])
        two.store(OTHERS, other(0, 4.0))
        assert norms(served) == {0: 3}
        two.store(other(1, 4.0), other(2, 4.0), other(3, 4.0))
        assert list(norms(served)) == [0, 1, 2]
        one.store(*[first(step, 1.0) for step in range(3, 6)])
        assert list(norms(served)) == [0, 1, 2, 3]
        two.store(other(4, 4.0), other(5, 4.0))
        assert norms(served) == dict.fromkeys(range(6), 3)


def test_a_sum_that_is_not_whole_is_absent(served: Served) -> None:
    """A step that a rank has no frame of, and a parameter that it has no value of."""
    with ranks(served) as (one, two):
        one.store(FIRST, *[first(step, 9.0, 1.0) for step in range(5)])
        two.store(OTHERS, other(0, 16.0, 3.0), other(2, None, 3.0), other(4, 16.0, 3.0))
        assert norms(served) == {0: 5, 4: 5}
        assert norms(served, "a.bias") == {0: 2, 2: 2, 4: 2}


def test_a_parameter_counts_on_the_ranks_that_have_it(served: Served) -> None:
    """One that rank 0 has no part of is a sum all the same."""
    own = ("b.weight", wire.PARAMETER, SQUARE)
    with ranks(served) as (one, two):
        one.store(layout(TOTAL, WEIGHT), frame(0, [9.0, 9.0]))
        two.store(layout(TOTAL, own), frame(0, [4.0, 4.0]))
        assert (norms(served), norms(served, "b.weight")) == ({0: 3}, {0: 2})
        assert norms(served, "", wire.RUN)[0] == pytest.approx(math.sqrt(13))


def test_non_finite_parts_make_non_finite_norms(served: Served) -> None:
    """Which the rules see, unless the step was skipped."""
    skip = ("", wire.RUN, wire.SKIPPED)
    with ranks(served) as (one, two):
        one.store(layout(skip, WEIGHT), frame(0, [1.0, 9.0]), frame(1, [0.0, 9.0]), frame(2, [0.0, 9.0]))
        two.store(layout(WEIGHT), frame(0, [math.inf]), frame(1, [16.0]))
        assert norms(served) == {0: "Infinity", 1: 5}
        assert [one["rule"] for one in served.get("/api/alerts")["alerts"]] == []
        two.store(frame(2, [math.nan]))
        alerts = [one for one in served.get("/api/alerts")["alerts"] if one["rule"] == "gradient_nonfinite"]
        assert [(one["last_step"], one["rank"]) for one in alerts] == [(2, 0)]


def test_an_alarm_of_a_sum_stays_while_rank_0_goes_on(served: Served) -> None:
    """It is the newest process of its rank, however much it has told since the ranks were first added up."""
    with ranks(served) as (one, two):
        for step in range(3):
            one.store(*([FIRST] if step == 0 else []), first(step, math.inf if step == 2 else 9.0))
            two.store(*([OTHERS] if step == 0 else []), other(step, 16.0))
        alerts = [one for one in served.get("/api/alerts")["alerts"] if one["rule"] == "gradient_nonfinite"]
        assert [(one["first_step"], one["status"]) for one in alerts if one["layer"] is None] == [(2, "firing")]


def test_another_launch_is_another_sum(served: Served) -> None:
    """A rank's old process is not added to rank 0's new one, whose step it also told."""
    with ranks(served) as (one, two):
        one.store(FIRST, *[first(step, 9.0) for step in range(4)])
        two.store(OTHERS, *[other(step, 16.0) for step in range(4)])
    again: dict[str, Any] = {"started": 2.0, "launch": "l-2", "world_size": 2}
    with served.trainer(producer="q-0", **again) as one:
        one.hello()
        one.store(FIRST, first(2, 0.0))
        assert norms(served) == {0: 5, 1: 5}
        with served.trainer(producer="q-1", rank=1, **again) as two:
            two.hello()
            two.store(OTHERS, other(2, 4.0))
        assert norms(served) == {0: 5, 1: 5, 2: 2}


@pytest.mark.parametrize("size", [1, 2])
def test_it_goes_on_where_a_server_that_ended_had_stopped(private_home: Any, size: int) -> None:
    """What had been added up is not added up again; what had not, is."""
    everyone: Sequence[int] = range(size)
    with Served(private_home) as served, ranks(served, size) as speakers:
        for rank in everyone:
            speakers[rank].store(OTHERS, *[other(step, 8.0 / size) for step in range(3 if rank else 2)])
    with Served(private_home) as served, ranks(served, size) as speakers:
        assert len(norms(served)) == 2
        for rank in everyone:
            speakers[rank].store(other(3 if rank else 2, 8.0 / size))
        assert list(norms(served)) == [0, 1, 2]
        assert norms(served)[2] == pytest.approx(math.sqrt(8))


def test_layers_that_come_in_mid_run_have_sums_of_their_own(served: Served) -> None:
    """Where one rank is a step ahead of the other in declaring them, that step has none: it could be wrong."""
    new = ("b.weight", wire.PARAMETER, SQUARE)
    with ranks(served) as (one, two):
        one.store(FIRST, first(0, 9.0), first(1, 9.0))
        two.store(OTHERS, other(0, 16.0), other(1, 16.0))
        one.store(layout(LOSS, WEIGHT, TOTAL, new, number=2), frame(2, [0.5, 9.0, 10.0, 1.0], 2))
        two.store(other(2, 16.0))
        one.store(frame(3, [0.5, 9.0, 10.0, 1.0], 2))
        two.store(layout(TOTAL, new, WEIGHT, number=2), frame(3, [19.0, 3.0, 16.0], 2))
        assert norms(served) == {0: 5, 1: 5, 3: 5}
        assert norms(served, "b.weight") == {3: 2}
