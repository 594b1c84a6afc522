"""Which rank is the farthest from the others, and how far."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainvitals import wire
from trainvitals_server.rules import Block, apart

NAN, INF = math.nan, math.inf
VALUES = st.sampled_from([0.0, 1e-9, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 1e4, NAN, INF, -INF])
SERIES = [wire.Series(0, "bn", wire.NORM, wire.VAR_MAX)]


def found(*told: float) -> apart.Farthest:
    """What is found of one layer at one step of which these ranks told."""
    values = np.array(told).reshape(len(told), 1, 1)
    parts = apart.compare(values, np.ones((1, 1), np.bool_)).astype(np.float32)
    steps = np.array([5], np.int64)
    return apart.farthest(Block(apart.columns(SERIES), steps, steps.astype(float), parts, None, ()), apart.VARIANCES)


def said(*told: float) -> tuple[float, ...]:
    """Rank, value, median, low and high."""
    return tuple(float(part[0, 0]) for part in found(*told)[1:])


def test_the_largest_or_the_smallest_is_named_with_the_range_of_the_others() -> None:
    """Whichever is farther from the others' median, by how many times."""
    assert said(1, 2, 40, 3) == (2, 40, 2, 1, 3)
    assert said(4, 8, 0.25, 2) == (2, 0.25, 4, 2, 8)
    assert found(4, 8, 0.25, 2).times(1e-5)[0, 0] == 16


def test_of_two_ranks_the_second_is_measured_by_the_first() -> None:
    """Nobody knows which of them is right."""
    assert said(1, 9) == (1, 9, 1, 1, 1)
    assert said(9, 1) == (1, 1, 9, 9, 9)
    assert found(9, 1).times(1e-5)[0, 0] == found(1, 9).times(1e-5)[0, 0] == 9


def test_two_halves_are_as_far_apart_as_one_from_all_others() -> None:
    """A whole machine can have gone its own way: the one left beside it does not hide it."""
    assert found(1, 1, 64, 64).times(1e-5)[0, 0] == 64
    assert found(1, 1, 64, 64, 1).times(1e-5)[0, 0] == 64


def test_zeros_hide_nobody() -> None:
    """A rank that is the only one with anything at all, and one that has nothing."""
    assert said(0, 0, 5)[:2] == (2, 5)
    assert said(5, 0, 5)[:2] == (1, 0)
    assert found(0, 1e-9, 0).times(1e-5)[0, 0] == 1


def test_a_rank_that_is_not_finite_is_farther_than_any() -> None:
    """The others' range is that of the finite ones; where none is there is nobody to compare with."""
    assert said(1, NAN, 3, 1e9)[0] == 1
    assert math.isnan(said(1, NAN, 3, 1e9)[1])
    assert said(1, -INF, 3, 4)[2:] == (3, 1, 4)
    assert said(INF, 2) == (0, INF, 2, 2, 2)
    assert found(INF, 2).times(1e-5)[0, 0] == INF
    assert np.isnan(found(NAN, INF).times(1e-5)).all()


def test_what_a_rank_did_not_tell_is_not_compared() -> None:
    """Neither as zero nor as NaN."""
    parts = apart.compare(np.array([[[1.0, 1.0]], [[0.0, 50.0]]]), np.array([[False, True]]))
    assert np.isnan(parts[0, ::2]).all()
    assert parts[0, 1::2].tolist() == [1, 50, 1, 1, 1]


@given(st.lists(VALUES, min_size=2, max_size=9))
def test_it_is_as_if_each_rank_was_held_against_the_others(told: list[float]) -> None:
    """None is farther than the one that is named, by the plain definition."""
    finite = [abs(one) < INF for one in told]  # false for NaN
    times = []
    for rank, value in enumerate(told):
        others = [one for place, one in enumerate(told) if place != rank and finite[place]]
        if others:
            median = max(float(np.median(others)), 1e-12)
            times.append(max(max(value, 1e-12) / median, median / max(value, 1e-12)) if finite[rank] else INF)
    if not any(finite):
        assert np.isnan(found(*told).median).all()
    elif not all(finite):
        rank = int(said(*told)[0])
        assert not finite[rank]
    else:
        assert found(*told).times(1e-12)[0, 0] == pytest.approx(max(times), rel=1e-5)
        rank, value, _, low, high = said(*told)
        others = [one for place, one in enumerate(told) if place != rank]
        assert (value, low, high) == pytest.approx((told[int(rank)], min(others), max(others)))
