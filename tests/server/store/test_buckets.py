"""Buckets lose no spike and no NaN, and merge exactly."""

import math
from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainvitals_server.store.buckets import FIELDS, Buckets, choose_width
from trainvitals_server.store.frames import Stretch

Value = float | None  # None: absent

numbers = st.one_of(
    st.integers(-1000, 1000).map(float),  # whole numbers, so that sums are exact in any order
    st.sampled_from([math.nan, math.inf, -math.inf, 65504.0]),
    st.none(),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[int], list[list[Value]]]:
    """Increasing steps, and a row of values for each."""
    steps = sorted(draw(st.sets(st.integers(0, 300), min_size=1, max_size=60)))
    columns = draw(st.integers(1, 4))
    rows = [draw(st.lists(numbers, min_size=columns, max_size=columns)) for _ in steps]
    return steps, rows


def stretch(steps: list[int], rows: list[list[Value]]) -> Stretch:
    values = np.array([[0.0 if v is None else v for v in row] for row in rows], np.float32)
    present = np.array([[v is not None for v in row] for row in rows])
    return Stretch(np.array(steps), np.zeros(len(steps)), values, None if present.all() else present)


def oracle(steps: list[int], values: list[Value], width: int) -> dict[int, dict[str, float]]:
    """The same, one value at a time."""
    grouped = defaultdict(list)
    for step, value in zip(steps, values, strict=True):
        if value is not None:
            grouped[step // width * width].append(value)
    found = {}
    for start, some in grouped.items():
        finite = [value for value in some if math.isfinite(value)]
        found[start] = {
            "n": len(some),
            "min": min(finite, default=math.nan),
            "max": max(finite, default=math.nan),
            "sum": sum(finite) if finite else math.nan,
            "first": some[0],
            "last": some[-1],
            "n_nan": sum(math.isnan(value) for value in some),
            "n_posinf": some.count(math.inf),
            "n_neginf": some.count(-math.inf),
        }
    return found


@given(tables(), st.sampled_from([1, 2, 8, 64]), st.data())
def test_buckets_agree_with_one_value_at_a_time_however_they_were_cut(
    table: tuple[list[int], list[list[Value]]], width: int, data: st.DataObject
) -> None:
    """Pieces folded in any cut and order give what a plain loop gives, planted NaN, Inf and absences included."""
    steps, rows = table
    cut = data.draw(st.integers(0, len(steps)))
    pieces = [(steps[:cut], rows[:cut]), (steps[cut:], rows[cut:])]
    if data.draw(st.booleans()):
        pieces.reverse()
    series = len(rows[0])
    buckets = Buckets.empty(0, 300, width, series)
    for some, part in pieces:
        if some:
            buckets.fold(stretch(some, part), np.arange(series), np.arange(series))
    for column in range(series):
        expected = oracle(steps, [row[column] for row in rows], width)
        got = buckets.column(column)
        assert got["step"].tolist() == sorted(expected)
        for field in FIELDS:
            np.testing.assert_array_equal(got[field], [expected[start][field] for start in sorted(expected)], field)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(2, 5000))
def test_the_width_is_the_least_power_of_two_that_fits(low: int, span: int, most: int) -> None:
    """Half of it would not do."""
    high = low + span
    width = choose_width(low, high, most)
    assert width & (width - 1) == 0
    assert high // width - low // width + 1 <= most
    half = width // 2
    assert width == 1 or high // half - low // half + 1 > most


def test_a_spike_and_a_nan_in_a_million_survive() -> None:
    """One bucket over everything still shows both."""
    values = np.zeros((100_000, 1), np.float32)
    values[777], values[778] = 60_000, np.nan
    buckets = Buckets.empty(0, 99_999, 1 << 17, 1)
    buckets.fold(Stretch(np.arange(100_000), np.zeros(100_000), values, None), np.array([0]), np.array([0]))
    column = buckets.column(0)
    assert (column["max"][0], column["n_nan"][0], column["n"][0]) == (60_000, 1, 100_000)
