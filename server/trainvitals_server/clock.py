"""Time, passed in wherever it is needed, so that tests can hold it still."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Clock:
    """`now` is Unix seconds, for what people read; `monotonic` is for waiting, and no clock change disturbs it."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


def iso(moment: float | None) -> str | None:
    """Unix seconds as ISO-8601 UTC."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
