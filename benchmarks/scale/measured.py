"""One process that stores a generated run, asks about it meanwhile and afterwards, and prints one JSON object.

python -m scale.measured STEPS LAYERS FOLDER
"""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from scale.generated import STATS, batches
from trainvitals import wire
from trainvitals_server.changes import Changes
from trainvitals_server.clock import Clock
from trainvitals_server.compactor import TOGETHER, Compactor
from trainvitals_server.ingest import intake
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.ingest.writer import Writer
from trainvitals_server.life import deleting, upkeep
from trainvitals_server.store import heatmap, history, runs, series, space
from trainvitals_server.store.database import Database

RUN = "generated"
POINTS = 500  # as the page asks
COLUMNS = 500
AHEAD = 8  # batches handed to the writer that it has not answered
PATIENCE = 60.0  # seconds: a question that takes longer than a server allows is measured all the same
ASKS = 40  # random questions of each kind

Question = Callable[[], None]


class Measured:
    """A store in `folder`, and what it cost."""

    def __init__(self, folder: Path, steps: int, layers: int) -> None:
        self.steps, self.layers = steps, layers
        self.database = Database(folder / "store.db")
        self.books = Books()
        self.writer = Writer(self.database, lambda changes: None, self.books.forget, Clock())
        self.writer.start()
        self.random = random.Random(0)  # noqa: S311
        self.compacting = 0.0  # seconds of CPU of the background thread
        self.busy = 0.0  # and of the writer for its jobs
        self.longest = 0.0  # job
        self.parts: list[tuple[int, float]] = []  # frames so far, CPU of the writer so far
        self.asked: dict[str, list[tuple[float, float]]] = {}  # seconds, and of CPU
        self.memory = 0
        self.free = 0  # pages
        self._done = threading.Event()

    def store(self) -> float:
        """The whole run through the writer, with compaction and questions beside it; returns seconds."""
        identity = wire.Identity(run=RUN, producer="p-1", started=1.0, name=RUN)
        hello = wire.Hello(protocol=wire.PROTOCOL, identity=identity, first=0, next=0)
        who = self.writer.submit(partial(intake.enter, hello=hello)).result()
        others = [threading.Thread(target=self._compact), threading.Thread(target=self._ask_along)]
        for other in others:
            other.start()
        began, seq, owed = time.monotonic(), 0, []
        for records in batches(self.steps, self.layers):
            batch = wire.Batch(first=seq, records=records)
            seq += len(records)
            owed.append((seq, self.writer.submit(partial(self._take, who=who, batch=batch))))
            while len(owed) > AHEAD:
                count, future = owed.pop(0)
                self.parts.append((count, future.result()))
        for count, future in owed:
            self.parts.append((count, future.result()))
        seconds = time.monotonic() - began
        self._done.set()
        for other in others:
            other.join()
        return seconds

    def _take(self, tx: Transaction, who: runs.Producer, batch: wire.Batch) -> float:
        outcome = intake.take(tx, self.books, who, batch)
        assert not outcome.rejected
        tx.changes = Changes()  # nobody watches
        return time.thread_time()

    def _compact(self) -> None:
        compactor = Compactor(self.database)
        over = False  # with the run
        look = time.monotonic() + upkeep.LOOK_SECONDS
        while not over:
            over = self._done.wait(0.1)
            for shelf in compactor.changed():
                while stages := compactor.plan(shelf.layout, idle=over):
                    for stage in stages:
                        for at in range(0, len(stage), TOGETHER):
                            self._jobs(stage[at : at + TOGETHER])
                compactor.note(shelf)
            if over or time.monotonic() >= look:
                self._tidy()
                look = time.monotonic() + upkeep.LOOK_SECONDS
        self.compacting = time.thread_time()

    def _jobs(self, jobs: Sequence[Callable[[Any], None]]) -> None:
        def work(tx: Transaction, job: Callable[[Any], None]) -> tuple[float, float]:
            began, cpu = time.perf_counter(), time.thread_time()
            job(tx.connection)
            return time.perf_counter() - began, time.thread_time() - cpu

        for future in [self.writer.submit(partial(work, job=job)) for job in jobs]:
            wall, cpu = future.result()
            self.busy += cpu
            self.longest = max(self.longest, wall)

    def _tidy(self) -> None:
        """Give free pages back to the disk, as the server's upkeep does: in jobs of a few milliseconds."""

        def work(connection: Any) -> None:
            until = time.monotonic() + deleting.JOB_SECONDS
            while space.shrink(connection, deleting.PAGES) > 0 and time.monotonic() < until:
                pass
            self.free = space.free_pages(connection)

        self._jobs([work])
        while self.free:
            time.sleep(deleting.REST_SECONDS)
            self._jobs([work])

    def _ask_along(self) -> None:
        while not self._done.wait(0.25):
            with self.database.reading() as connection:
                newest = runs.newest_with_frames(connection, RUN)
            if newest is not None and (newest.last_step or 0) > 100:
                name, question = self.random.choice(list(self.questions((newest.last_step or 0) + 1).items()))
                self._time(f"meanwhile: {name}", question)
                self.memory = max(self.memory, resident())

    def questions(self, steps: int) -> dict[str, Question]:
        """One of each kind, about random steps of those there are."""
        low, high = sorted(self.random.sample(range(steps), 2))
        with self.database.reading() as connection:
            rows = series.list_all(connection, RUN)
            one = self.random.choice(rows).id
            chosen = heatmap.rows_of(connection, RUN, *self.random.choice(STATS))
        whole, part = history.Question(RUN), history.Question(RUN, low, high)
        near = history.Question(RUN, low, min(steps - 1, low + self.random.randrange(1000, 20_000)))
        planes = ("max", "last", "n_nonfinite")
        at = history.Question(RUN, None, low)
        return {
            "one series, whole run": partial(self._range, whole, [one]),
            "one series, any range": partial(self._range, part, [one]),
            "one series, some thousand steps": partial(self._range, near, [one]),
            "12 series, any range": partial(self._range, part, chosen[:12]),
            "heatmap, whole run": partial(self._map, whole, chosen, planes),
            "heatmap, any range": partial(self._map, part, chosen, planes),
            "heatmap, some thousand steps": partial(self._map, near, chosen, planes),
            "state at a step": partial(self._moment, at),
        }

    def _range(self, question: history.Question, wanted: list[int]) -> None:
        with self.database.reading(PATIENCE) as connection:
            found = history.read_range(connection, question, wanted, POINTS)
        assert found.buckets.n.sum() > 0

    def _map(self, question: history.Question, wanted: list[int], planes: tuple[str, ...]) -> None:
        with self.database.reading(PATIENCE) as connection:
            found = heatmap.read(connection, question, wanted, COLUMNS, planes)
        assert len(found.planes["max"]) == self.layers

    def _moment(self, question: history.Question) -> None:
        with self.database.reading(PATIENCE) as connection:
            found = history.read_moment(connection, question)
        assert len(found.values) == self.layers * len(STATS)

    def _time(self, name: str, question: Question) -> None:
        began, cpu = time.perf_counter(), time.thread_time()
        question()
        self.asked.setdefault(name, []).append((time.perf_counter() - began, time.thread_time() - cpu))

    def ask(self) -> None:
        """Random questions of each kind, with nothing else going on."""
        for _ in range(ASKS):
            for name, question in self.questions(self.steps).items():
                self._time(name, question)
                self.memory = max(self.memory, resident())

    def sizes(self) -> dict[str, int]:
        """Bytes of the file, and of its pages in use."""
        connection = self.database.writer()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        connection.close()
        return {"file": pages * size, "used": (pages - free) * size}

    def growth(self) -> tuple[float, float]:
        """CPU seconds per frame in the first and the last tenth of the run."""
        tenth = max(1, len(self.parts) // 10)
        found = []
        for part in (self.parts[1 : tenth + 1], self.parts[-tenth - 1 :]):
            frames, seconds = part[-1][0] - part[0][0], part[-1][1] - part[0][1]
            found.append(seconds / max(1, frames))
        return found[0], found[1]


def spread(some: list[tuple[float, float]]) -> dict[str, float]:
    """Median and worst of the seconds, worst of the CPU."""
    seconds = [one[0] for one in some]
    return {"median": median(seconds), "worst": max(seconds), "cpu": max(one[1] for one in some)}


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(steps: int, layers: int, folder: Path) -> None:
    """Measure, and print."""
    before = resident()
    one = Measured(folder, steps, layers)
    seconds = one.store()
    writer = one.parts[-1][1]
    one.ask()
    first, last = one.growth()
    found = {
        "steps": steps,
        "points": steps * layers * len(STATS),
        "seconds": seconds,
        "writer": writer - one.busy,
        "jobs": one.busy,
        "longest": one.longest,
        "compacting": one.compacting,
        "first": first,
        "last": last,
        "before": before,
        "memory": one.memory,
        "asked": {name: spread(some) for name, some in one.asked.items()},
        **one.sizes(),
    }
    one.writer.close()
    one.database.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
