"""Deleting runs through the one writer: hidden at once, removed a little at a time, so that ingest goes on."""

import asyncio
import time
from collections.abc import Callable
from functools import partial

from trainvitals_server.errors import RefusedError
from trainvitals_server.ingest.session import POLICY, Close
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.parts import Parts
from trainvitals_server.store import deletion, journal, runs, space

JOB_SECONDS = 0.005  # of the writer's time in one transaction
REST_SECONDS = 0.01  # between two, which are the trainers'
PAGES = 16  # given back between two looks at the clock


async def delete(parts: Parts, run: str, *, role: str, origin: str, reason: str, force: bool = False) -> None:
    """Hide a run and leave its deletion to the upkeep. Raises `RefusedError` where there is none, or where it is under
    way or pinned and `force` is not given."""
    connected = parts.pulse.connected(run)

    def work(tx: Transaction) -> None:
        row = runs.get(tx.connection, run)
        if row is None:
            raise RefusedError(404, f"expected the id of a run, got {run[:100]!r}")
        if not force and (connected or row["state"] in ("starting", "live", "stalled")):
            raise RefusedError(409, f"expected a run that has ended, got one that is {row['state']}; force deletes it")
        if not force and row["pinned"]:
            raise RefusedError(409, "expected a run that is not pinned, got one that is; unpin it first, or force it")
        deletion.hide(tx.connection, run, tx.now, reason)
        parts.books.forget()
        journal.audit(
            tx.connection, tx.now, role=role, origin=origin, action="delete", run=run, outcome="deleted", detail=reason
        )

    await parts.write(work)
    forget(parts, run)
    parts.upkeep.set()


def forget(parts: Parts, run: str) -> None:
    """Let go of what memory holds of a run that is gone, and of its trainers. Call on the event loop."""
    for connection in parts.connections.of_run(run):
        connection.displace(Close(POLICY, "the run was deleted"))
    parts.pulse.forget(run)
    parts.stories.forget(run)
    parts.summaries.forget(run)
    parts.hub.tell(run, {"type": "notice", "code": "deleted", "text": f"run {run} was deleted"})
    parts.hub.mark(run)


async def remove_hidden(parts: Parts) -> None:
    """Remove what is hidden, except what is being imported now, and give its room back."""
    for run in await asyncio.to_thread(_hidden, parts):
        if run not in parts.importing:
            await repeat(parts, partial(_sweep, parts=parts, run=run))
            parts.stories.forget(run)
            parts.summaries.forget(run)
    await repeat(parts, _shrink)


def _sweep(tx: Transaction, parts: Parts, run: str) -> bool:
    more = deletion.sweep(tx.connection, run)
    if not more:
        parts.books.forget()  # its row ids may be given to others now
    return more


def _shrink(tx: Transaction) -> bool:
    return space.shrink(tx.connection, PAGES) > 0


async def repeat(parts: Parts, work: Callable[[Transaction], bool]) -> None:
    """Do small work until it says that there is no more, in transactions of `JOB_SECONDS`."""

    def some(tx: Transaction) -> bool:
        until = time.monotonic() + JOB_SECONDS
        while more := work(tx):
            if time.monotonic() > until:
                break
        return more

    more = True
    while more:
        async with parts.row_ids:
            more = await parts.write(some)
        await asyncio.sleep(REST_SECONDS)


def _hidden(parts: Parts) -> list[str]:
    with parts.database.reading() as connection:
        return deletion.hidden(connection)
