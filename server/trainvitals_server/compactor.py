"""The task that compacts the store in the background: what is dear on a thread of its own, from a snapshot; what is
written in small jobs of the one writer, a few at a time, so that acks are never far."""

import asyncio
import logging

from trainvitals_server.errors import StoreBusyError
from trainvitals_server.parts import Parts
from trainvitals_server.store import compaction, shelves
from trainvitals_server.store.database import Database, ReadError
from trainvitals_server.store.shelves import Shelf

PAUSE_SECONDS = 0.5
IDLE_SECONDS = 600.0  # without a frame; then what would not fill a span is compacted too
IDLE_PAUSES = 120  # between looks for such
PLAN_SECONDS = 30.0  # of one snapshot: a fraction of a second of work, but everybody else has the right of way
TOGETHER = 2  # jobs that wait for the writer at once

log = logging.getLogger("trainvitals.server")


class Compactor:
    """Remembers what it has looked at, so that a look at thousands of runs that stand still costs nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[int, Shelf] = {}
        self._troubled: set[int] = set()

    def changed(self) -> list[Shelf]:
        """The shelves of layouts whose frames have come further since they were noted."""
        with self._database.reading() as connection:
            found = shelves.list_all(connection)
        gone = self._seen.keys() - {shelf.layout for shelf in found}
        for layout in gone:  # with its run; another one may be given its id
            del self._seen[layout]
            self._troubled.discard(layout)
        return [shelf for shelf in found if self._seen.get(shelf.layout) != shelf]

    def note(self, shelf: Shelf) -> None:
        """All that was due about this shelf is done."""
        self._seen[shelf.layout] = shelf

    def complain(self, layout: int) -> None:
        """Log the error that kept a layout from being compacted, once."""
        if layout not in self._troubled:
            self._troubled.add(layout)
            log.exception("the frames of layout %d could not be compacted", layout)

    def idle(self, before: float) -> list[int]:
        """The layouts whose producers were last heard of before a time."""
        with self._database.reading() as connection:
            return shelves.list_idle(connection, before)

    def plan(self, layout: int, *, idle: bool) -> list[compaction.Stage]:
        """The next jobs for a layout, stage by stage."""
        with self._database.reading(PLAN_SECONDS) as connection:
            return compaction.plan(connection, layout, idle=idle)


async def run(parts: Parts) -> None:
    """The task. While the database cannot be written everything is tried again; whatever else fails is one layout's,
    and the next has its turn."""
    compactor = Compactor(parts.database)
    count = 0
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        try:
            await _round(parts, compactor, idle=count % IDLE_PAUSES == 0)
        except (StoreBusyError, ReadError):
            continue  # the writer has said so in the log
        count += 1


async def _round(parts: Parts, compactor: Compactor, *, idle: bool) -> None:
    for shelf in await asyncio.to_thread(compactor.changed):
        await compact(parts, compactor, shelf.layout)
        compactor.note(shelf)
    if idle:
        for layout in await asyncio.to_thread(compactor.idle, parts.clock.now() - IDLE_SECONDS):
            await compact(parts, compactor, layout, idle=True)


async def compact(parts: Parts, compactor: Compactor, layout: int, *, idle: bool = False) -> None:
    """Do all that is due about a layout. Raises `StoreBusyError`."""
    try:
        while await _compact_once(parts, compactor, layout, idle=idle):
            pass
    except StoreBusyError:
        raise
    except Exception:  # of one layout: its rows are damaged, or its run was deleted meanwhile
        compactor.complain(layout)


async def _compact_once(parts: Parts, compactor: Compactor, layout: int, *, idle: bool) -> bool:
    """One plan and its jobs, during which no row is freed whose id they name and another run could be given; whether
    there may be more."""
    async with parts.row_ids:
        stages = await asyncio.to_thread(compactor.plan, layout, idle=idle)
        for stage in stages:
            for at in range(0, len(stage), TOGETHER):
                await asyncio.gather(*(_write(parts, job) for job in stage[at : at + TOGETHER]))
    return bool(stages)


async def _write(parts: Parts, job: compaction.Job) -> None:
    await parts.write(lambda tx: job(tx.connection))
