"""Latches, windows, streaks and holds over any number of observations."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainvitals_server.rules.levels import Hold, Window, changes, latch, streak

FLAGS = st.lists(st.booleans(), max_size=40)


def test_a_latch_keeps_what_it_was_until_something_decides() -> None:
    """Setting wins over resetting."""
    sets = np.array([[False], [True], [False], [True], [False]])
    resets = np.array([[False], [False], [False], [True], [True]])
    assert latch(np.array([False]), sets, resets)[:, 0].tolist() == [False, True, True, True, False]
    assert latch(np.array([True]), sets[:1], resets[:1])[:, 0].tolist() == [True]


def test_a_change_against_the_row_before_the_block_counts() -> None:
    """Otherwise a block would begin blind."""
    assert changes(np.array([1, 0]), np.array([[0, 0], [0, 2]])) == [(0, 0), (1, 1)]


@given(st.integers(0, 5), FLAGS)
def test_a_streak_counts_true_flags_in_a_row(before: int, flags: list[bool]) -> None:
    """As counting one by one does."""
    expected, running = [], before
    for flag in flags:
        running = running + 1 if flag else 0
        expected.append(running)
    assert streak(before, np.array(flags, dtype=bool)).tolist() == expected


@given(FLAGS, FLAGS, st.integers(1, 10))
def test_a_window_counts_the_hits_in_reach(first: list[bool], second: list[bool], width: int) -> None:
    """Over the boundary of two blocks too."""
    window, _ = Window().count(np.array(first, dtype=bool), width)
    _, counts = window.count(np.array(second, dtype=bool), width)
    both = first + second
    ends = range(len(first) + 1, len(both) + 1)
    assert counts.tolist() == [sum(both[max(0, end - width) : end]) for end in ends]


def test_a_hold_waits_before_it_clears() -> None:
    """A good observation between two bad ones is no recovery."""
    bad = np.array([True, False, True, False, False, False])
    hold, rows = Hold().observe(np.arange(6, dtype=np.int64), bad, release=3)
    assert rows == [0, 5]
    assert hold == Hold()
