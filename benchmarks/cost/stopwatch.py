"""CPU time of this thread, of this process, and of the processes it has started."""

import os
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Adds up what the calling thread spends between `start` and `stop`. A start while it runs counts from there anew,
    a stop while it stands does nothing."""

    def __init__(self) -> None:
        self._started: float | None = None
        self._spent = 0.0

    def start(self) -> None:
        """From here on."""
        self._started = time.thread_time()

    def stop(self) -> None:
        """Up to here."""
        if self._started is not None:
            self._spent += time.thread_time() - self._started
            self._started = None

    def take(self) -> float:
        """Seconds since the last call."""
        spent, self._spent = self._spent, 0.0
        return spent


def other_threads() -> float:
    """CPU seconds of this process's other threads so far. Read one after the other, so right to some microseconds."""
    return time.process_time() - time.thread_time()


def started_processes() -> float:
    """CPU seconds of this process's living descendants so far, in ticks of the kernel's (10 ms)."""
    rows = [row for folder in Path("/proc").glob("[0-9]*") if (row := _row(folder)) is not None]
    ours, spent = {os.getpid()}, 0
    found = True
    while found:
        found = False
        for process, parent, ticks in rows:
            if parent in ours and process not in ours:
                ours.add(process)
                spent += ticks
                found = True
    return spent / TICKS


def _row(folder: Path) -> tuple[int, int, int] | None:
    """Process, its parent, and the ticks it has used; None where it has ended meanwhile."""
    try:
        fields = (folder / "stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return int(folder.name), int(fields[1]), int(fields[11]) + int(fields[12])
