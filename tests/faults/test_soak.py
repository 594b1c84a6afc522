"""Load for long, with a kill every minute.

Theory of operation. Resident memory alone does not tell a leak from a heap that settles: SQLite's caches fill, a thread
that has work for the first time gets what it needs, the first level of buckets is compacted; each of these is a jump of
up to three MiB, and they come ever more seldom for an hour. A leak of 1 MiB/h adds a tenth of that in a quarter of an
hour. So each process also tallies the memory blocks of Python that it has in use, of which every object has one: what
is kept for each step, connection or run shows there at once, and the tally breathes by some hundreds only. Both are
judged by the promise and an allowance that does not grow with the time: the longer it lasts, the more the promise
counts. What trainers leave behind is also counted object by object, in tests/server/test_parts.py.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from served import until
from ward import Training, Ward

Enter = Callable[..., None]
KILL, LOOK = 60.0, 1.0  # seconds between kills, and between looks
WARM = 60.0, 600.0  # seconds before memory is judged, at least and at most; else a third of the half
PAUSE = 0.02  # seconds between the steps of each training
CACHE = 1024  # KiB of pages; the usual 16 MiB fill within half an hour, which would look like a leak of 34 MiB/h
MIB = 1 << 20
PROMISE = 1.0 * MIB  # bytes an hour
BLOCK = 64  # bytes of a block of Python's, about
SETTLING = 6.0 * MIB  # of resident memory, behind the warm-up: the jumps of an hour
BREATH = 4000.0  # blocks: the newest steps and events of each run of the last minute


class Look(NamedTuple):
    """A process at one moment: seconds, bytes, blocks of Python's memory in use (0: not yet tallied), open files."""

    moment: float
    resident: float
    blocks: float
    descriptors: float


class Watched:
    """A process's memory and descriptors over time; what it needs to get going is left out."""

    def __init__(self, pid: int, tally: Path, warm: float) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._tally = tally
        self._begin = time.monotonic()
        self._warm = warm
        self.looks: list[Look] = []

    def look(self) -> None:
        """Note how it is, once it is warm."""
        moment = time.monotonic() - self._begin
        if moment > self._warm and self._tally.exists():
            resident = int((self._folder / "status").read_text().split("VmRSS:")[1].split()[0]) << 10
            descriptors = len(list((self._folder / "fd").iterdir()))
            self.looks.append(Look(moment, resident, int(self._tally.read_text()), descriptors))

    def grown(self) -> Look:
        """How much more it is in the last tenth of the looks than in the first, by medians, and how long that took."""
        some = np.array(self.looks)
        tenth = max(len(some) // 10, 1)
        return Look(*(np.median(some[-tenth:], axis=0) - np.median(some[:tenth], axis=0)).tolist())


@pytest.mark.chaos
def test_load_for_long_with_a_kill_every_minute(ward: Ward, enter: Enter, request: pytest.FixtureRequest) -> None:
    """In the first half the server is killed and a training lives through it all; in the second a training is killed
    and started again, and the server lives."""
    half = max(request.config.getoption("--minutes") * 30, 2 * WARM[0])
    warm = min(max(half / 3, WARM[0]), WARM[1])
    trains, serves = ward.folder / "trains", ward.folder / "serves"
    ward.plant(f"cache={CACHE}", f"tally={serves}")
    restart(ward)
    steady = ward.train(pause=PAUSE, plants=[f"tally={trains}"]).under_way()
    name = f"soak, {half / 30:g} min, a kill every minute"
    with ward.fault(name, "memory slope ≤ 1 MiB/h; descriptors flat; 0 lost", 120) as row:
        trainer = Watched(steady.process.pid, trains, warm)
        go_on(half, [steady], trainer, lambda: restart(ward))
        ward.program.kill()
        serves.unlink(missing_ok=True)  # another process's
        ward.program.start()
        server = Watched(ward.program.pid, serves, warm)
        mortal = [ward.train(pause=PAUSE).under_way()]
        go_on(half, [steady], server, lambda: replace(ward, mortal))
    until(lambda: ward.audit().lost == 0, 60)  # the dead ones' spools, too
    row.count(ward.audit(by=time.monotonic() - 10))
    row.note = f"trainer {tell(trainer.grown())}; server {tell(server.grown())}"
    enter(row)
    judge(trainer.grown(), 2)
    judge(server.grown(), 4)


def judge(grown: Look, descriptors: int) -> None:
    """Raise AssertionError where it is more than the promise, a settling and a breath."""
    hours = grown.moment / 3600
    assert grown.resident <= SETTLING + PROMISE * hours, tell(grown)
    assert grown.blocks <= BREATH + PROMISE / BLOCK * hours, tell(grown)
    assert grown.descriptors <= descriptors, tell(grown)


def tell(grown: Look) -> str:
    """In words, with what a time so short can tell from a leak."""
    hours = grown.moment / 3600
    slope, objects = grown.resident / MIB / hours, grown.blocks * BLOCK / MIB / hours
    least = BREATH * BLOCK / MIB / hours, SETTLING / MIB / hours
    return (
        f"{slope:+.1f} MiB/h resident ({grown.resident / 1024:+.0f} KiB in {hours * 60:.0f} min, which resolve"
        f" {least[1]:.0f} MiB/h), objects {objects:+.2f} MiB/h ({grown.blocks:+.0f} blocks, resolving {least[0]:.1f}),"
        f" descriptors {grown.descriptors:+.0f}"
    )


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
