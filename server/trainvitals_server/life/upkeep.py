"""One small task that keeps the database as it was asked to be: goes on with deletions that were begun, deletes what is
past its time, and gives room back. Live and pinned runs are never touched."""

import asyncio
import logging

from trainvitals_server.errors import RefusedError, StoreBusyError
from trainvitals_server.life import carrying, deleting
from trainvitals_server.life.retention import LOST_SECONDS
from trainvitals_server.parts import Parts
from trainvitals_server.store import runs, space
from trainvitals_server.store.database import ReadError

LOOK_SECONDS = 60.0

log = logging.getLogger("trainvitals.server")


async def run(parts: Parts) -> None:
    """The task; it looks every minute, and whenever `parts.upkeep` is set."""
    carrying.clean(parts.settings.directory)
    while True:
        parts.upkeep.clear()
        try:
            await tidy(parts)
        except (StoreBusyError, ReadError) as error:  # the next look tries again
            log.warning("the database could not be tidied: %s", error)
        except Exception:  # one bad look must not end the upkeep for good
            log.exception("the database could not be tidied")
        try:
            await asyncio.wait_for(parts.upkeep.wait(), LOOK_SECONDS)
        except TimeoutError:
            continue


async def tidy(parts: Parts) -> None:
    """One look: everything that is due."""
    await deleting.remove_hidden(parts)
    kept: set[str] = set()  # could not be deleted: they have come to life since
    while (due := await asyncio.to_thread(overdue, parts, frozenset(kept))) is not None:
        run, reason = due
        try:
            await deleting.delete(parts, run, role="server", origin="retention", reason=reason)
        except RefusedError:
            kept.add(run)
            continue
        tell(parts, f"run {run} was deleted: {reason}")
        await deleting.remove_hidden(parts)


def overdue(parts: Parts, skip: frozenset[str]) -> tuple[str, str] | None:
    """The run that goes next, and why; None where all is within its limits."""
    wanted, now = parts.settings.retain, parts.clock.now()
    if not wanted:
        return None
    skip |= parts.pulse.connected_runs()
    with parts.database.reading() as connection:
        if wanted.seconds is not None:
            lost = now - max(LOST_SECONDS, wanted.seconds)
            found = runs.oldest_ended(connection, before=now - wanted.seconds, lost_before=lost, skip=skip)
            if found is not None:
                return found["id"], f"--retain {wanted.text}: it ended {(now - found['over']) / 86400:.1f} days ago"
        if wanted.bytes is None or (used := space.measure(connection, parts.database.path).used) <= wanted.bytes:
            parts.overfull = ""
            return None
        found = runs.oldest_ended(connection, before=now, lost_before=now - LOST_SECONDS, skip=skip)
    over = f"the database uses {used / 1e6:,.0f} MB"
    if found is not None:
        return found["id"], f"--retain {wanted.text}: {over}, and it ended first"
    if not parts.overfull:
        log.warning("--retain %s: %s, and only live and pinned runs are left", wanted.text, over)
    parts.overfull = f"{over}, more than --retain {wanted.text}; only live and pinned runs are left"
    return None


def tell(parts: Parts, text: str) -> None:
    """Say it in the log and to the browsers that show the list; the audit has it already."""
    log.info("%s", text)
    parts.hub.tell(None, {"type": "notice", "code": "deleted", "text": text})
