"""Sleep and set clocks are told apart, from readings that are passed in."""

import pytest

from trainvitals.delivery.clocks import Clocks, Reading, read, span

HOUR = 3600.0


@pytest.mark.parametrize(
    ("running", "boot", "wall", "told"),
    [
        (5.0, 5.0, 5.0, []),
        (5.0, 5.0, 64.0, []),
        (5.0, 2 * HOUR + 305, 2 * HOUR + 305, [("suspended", "the machine slept for 2 h 5 min")]),
        (
            125.0,
            125.0,
            125.0,
            [("stopped", "the process stood still for 2 min: stopped, paused, or held up by one call")],
        ),
        (64.0, 64.0, 64.0, []),
        (5.0, 5.0, HOUR, [("clock", "the wall clock was set forward by 59 min 55 s")]),
        (5.0, 5.0, -86395.0, [("clock", "the wall clock was set back by 1 d")]),
        (
            5.0,
            HOUR,
            0.0,
            [
                ("suspended", "the machine slept for 59 min 55 s"),
                ("clock", "the wall clock was set back by 1 h"),
            ],
        ),
    ],
)
def test_what_has_passed(running: float, boot: float, wall: float, told: list[tuple[str, str]]) -> None:
    """Between two readings of the clocks; the next time it is over."""
    clocks = Clocks(Reading(100.0, 200.0, 1e9))
    now = Reading(100.0 + running, 200.0 + boot, 1e9 + wall)
    assert clocks.note(now) == told
    assert clocks.note(now) == []


def test_now_nothing_has_happened() -> None:
    """The clocks of this machine, twice."""
    assert Clocks(read()).note(read()) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(61, "1 min 1 s"), (3600, "1 h"), (86461, "1 d"), (90000, "1 d 1 h"), (7500, "2 h 5 min")]
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    """In their two largest units."""
    assert span(seconds) == text
