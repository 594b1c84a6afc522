"""Time, passed in wherever it is needed, so that tests can hold it still."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _with_suspend() -> float:
    """Seconds since the machine was started, those in which it was suspended included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


@dataclass(frozen=True)
class Clock:
    """`now` is Unix seconds, for what people read; `monotonic` is for waiting, and no clock change disturbs it;
    `awake_or_not` is like it and goes on while the machine is suspended, where the platform can tell."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    awake_or_not: Callable[[], float] = _with_suspend


def iso(moment: float | None) -> str | None:
    """Unix seconds as ISO-8601 UTC."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
