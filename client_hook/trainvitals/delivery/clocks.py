"""The trainer's own clocks: whether the machine slept, whether the process stood still, and whether somebody set the
time.

On Linux one clock stands still while the machine sleeps and another does not; their difference is the sleep. What is
left of a look that comes late is the process's own: a signal or its container stopped it. The wall clock is compared
with the one that never stops. Readings are passed in.
"""

import time
from typing import NamedTuple

LEAST = 60.0  # seconds of sleep, of standing still, or of a jump of the wall clock, that are worth telling
LOOK = 5.0  # seconds between two looks


class Reading(NamedTuple):
    """The three clocks at one moment, in seconds: of the running process, since boot, and of the wall."""

    running: float
    boot: float
    wall: float


def read() -> Reading:
    """The clocks now. Where none runs on through a sleep, the one of the process stands for it."""
    running = time.monotonic()
    boot = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else running
    return Reading(running, boot, time.time())


class Clocks:
    """Compares each reading with the one before."""

    def __init__(self, first: Reading) -> None:
        self._last = first

    def note(self, now: Reading) -> list[tuple[str, str]]:
        """What has happened since the last reading: codes and texts of notices."""
        last, self._last = self._last, now
        passed = now.boot - last.boot
        ran = now.running - last.running
        slept, stood = passed - ran, ran - LOOK
        jumped = now.wall - last.wall - passed
        found = []
        if slept >= LEAST:
            found.append(("suspended", f"the machine slept for {span(slept)}"))
        if stood >= LEAST:
            found.append(
                ("stopped", f"the process stood still for {span(stood)}: stopped, paused, or held up by one call")
            )
        if abs(jumped) > LEAST:
            found.append(("clock", f"the wall clock was set {'forward' if jumped > 0 else 'back'} by {span(jumped)}"))
        return found


def span(seconds: float) -> str:
    """A length of time in its two largest units: 2 h 5 min."""
    whole = round(abs(seconds))
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        count, whole = divmod(whole, size)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
    return " ".join(part for part in parts[:2] if part)
