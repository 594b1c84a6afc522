"""Load for long, with a kill every minute."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from served import until
from ward import Training, Ward

Enter = Callable[..., None]
KILL, LOOK, WARM = 60.0, 1.0, 60.0  # seconds between kills, between looks, and before memory is judged
PAUSE = 0.02  # seconds between the steps of each training
CACHE = 1024  # KiB of pages; the usual 16 MiB fill within half an hour, which would look like a leak of 34 MiB/h
MOST = 6 << 20  # bytes that either process may grow in a half: heaps breathe, a leak of a run or of a step goes on


class Watched:
    """A process's memory and descriptors over time; what it needs to get going is left out."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._begin = time.monotonic()
        self.looks: list[tuple[float, int, int]] = []

    def look(self) -> None:
        """Note seconds, resident bytes and descriptors."""
        text = (self._folder / "status").read_text()
        resident = int(text.split("VmRSS:")[1].split()[0]) << 10
        self.looks.append((time.monotonic() - self._begin, resident, len(list((self._folder / "fd").iterdir()))))

    def slope(self, warm: float) -> float:
        """MiB per hour, by a line through what came after `warm` seconds."""
        some = [(seconds, size) for seconds, size, _ in self.looks if seconds > warm]
        times, sizes = np.array(some, float).T
        return float(np.polyfit(times, sizes, 1)[0]) * 3600 / (1 << 20)

    def growth(self, warm: float) -> tuple[int, int]:
        """Bytes and descriptors more at the end, at most of ten looks, than at first."""
        some = [(size, count) for seconds, size, count in self.looks if seconds > warm]
        (begin, few), (end, many) = (map(max, zip(*part, strict=True)) for part in (some[:10], some[-10:]))
        return end - begin, many - few


@pytest.mark.chaos
def test_load_for_long_with_a_kill_every_minute(ward: Ward, enter: Enter, request: pytest.FixtureRequest) -> None:
    """In the first half the server is killed and a training lives through it all; in the second a training is killed
    and started again, and the server lives."""
    half = request.config.getoption("--minutes") * 30
    warm = min(WARM, half / 3)
    ward.plant(f"cache={CACHE}")
    restart(ward)
    steady = ward.train(pause=PAUSE).under_way()
    name = f"soak, {half / 30:g} min, a kill every minute"
    with ward.fault(name, "memory slope ≤ 1 MiB/h; descriptors flat; 0 lost", 120) as row:
        trainer = Watched(steady.process.pid)
        go_on(half, [steady], trainer, lambda: restart(ward))
        server = Watched(ward.program.pid)
        mortal = [ward.train(pause=PAUSE).under_way()]
        go_on(half, [steady], server, lambda: replace(ward, mortal))
    until(lambda: ward.audit().lost == 0, 60)  # the dead ones' spools, too
    row.count(ward.audit(by=time.monotonic() - 10))
    (own, few), (its, many) = trainer.growth(warm), server.growth(warm)
    row.note = (
        f"trainer {trainer.slope(warm):+.1f} MiB/h ({own >> 10:+d} KiB) and {few:+d} descriptors,"
        f" server {server.slope(warm):+.1f} MiB/h ({its >> 10:+d} KiB) and {many:+d}"
    )
    enter(row)
    assert max(own, its) <= MOST
    assert few <= 2
    assert many <= 4


def go_on(seconds: float, trainings: list[Training], watched: Watched, kill: Callable[[], None]) -> None:
    """Train, with a kill every minute and a look every second."""
    begin = time.monotonic()
    killed = begin
    while time.monotonic() - begin < seconds:
        for training in trainings:
            training.go_on(LOOK)
        watched.look()
        if time.monotonic() - killed > KILL:
            killed = time.monotonic()
            kill()


def restart(ward: Ward) -> None:
    """Kill the server and start it again."""
    ward.program.kill()
    ward.program.start()


def replace(ward: Ward, mortal: list[Training]) -> None:
    """Kill the training, and start another one."""
    mortal[-1].kill()
    mortal.append(ward.train(pause=PAUSE).under_way())
