"""What needs a clock, done by one small task: runs that fall silent, commands nobody takes, contact noted."""

import asyncio
import logging

from trainvitals_server.commands import progress
from trainvitals_server.errors import StoreBusyError
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.parts import Parts
from trainvitals_server.runs import transitions
from trainvitals_server.runs.naps import Naps
from trainvitals_server.runs.pulse import Said
from trainvitals_server.store import commands, runs

TICK_SECONDS = 1.0
TOUCH_TICKS = 10

log = logging.getLogger("trainvitals.server")


async def run(parts: Parts) -> None:
    """The task. While the database cannot be written, every tick tries again, which is how it is found to have
    healed."""
    count = 0
    naps = Naps(parts.clock)
    while True:
        await asyncio.sleep(TICK_SECONDS)
        count += 1
        if naps.held_up() or parts.writer.trouble:
            parts.pulse.forgive(parts.clock.monotonic())
        try:
            await tick(parts, touch=count % TOUCH_TICKS == 0 or bool(parts.writer.trouble))
        except StoreBusyError:
            continue  # the writer has said so in the log
        except Exception:  # one bad tick must not stop the clock for good
            log.exception("what needs a clock could not be done")


async def tick(parts: Parts, *, touch: bool) -> None:
    """Do what is due now."""
    signals = list(parts.pulse.signals(parts.clock.monotonic(), parts.clock.now()))
    overdue = await asyncio.to_thread(_overdue, parts)
    now = parts.clock.now()
    contact = {run: now - since for run, since in parts.connections.silences().items()} if touch else {}
    if signals or overdue or touch:
        await parts.write(lambda tx: _write(tx, signals, contact))
    for run in contact:  # of a run that is connected and silent nothing else tells when it was heard of
        parts.summaries.touch(run)
        parts.hub.mark(run)


def _write(tx: Transaction, signals: list[Said], contact: dict[str, float]) -> None:
    for run, what, reason in signals:
        transitions.signal(tx, run, what, reason)
    progress.expire(tx)
    runs.touch(tx.connection, contact)


def _overdue(parts: Parts) -> bool:
    with parts.database.reading() as connection:
        return bool(commands.overdue(connection, parts.clock.now()))
