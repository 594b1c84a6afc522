"""Delivers the spools that ended processes left behind: by the next `watch` of the directory, by a local server, and
by `trainvitals sync`. Each is streamed like a living one, under its own producer id, and then removed.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trainvitals import wire
from trainvitals.delivery.address import Address
from trainvitals.delivery.link import Link
from trainvitals.delivery.remains import Remains, take
from trainvitals.delivery.segments import find

log = logging.getLogger("trainvitals")

PATIENCE = 15.0  # seconds without progress after which a spool is left for later
AGAIN = 120.0  # seconds until one that the server did not take is tried again
LOOK = 0.05  # seconds between two looks at the progress
PLACES = ("identity", "*/identity", "*/*/identity", "spool/*/*/identity")  # of a producer, run, spools, home

Find = Callable[[], Address | None]


@dataclass
class Delivery:
    """How a spool fared. Counts are numbers of the sequence: records, and what gaps stand for."""

    path: Path
    run: str = ""
    producer: str = ""
    records: int = 0  # in all
    sent: int = 0
    known: int = 0  # of them the server had already
    lost: int = 0  # records that gaps count
    quarantined: int = 0
    away: bool = False  # the server could not be reached, so that others would not fare better
    outcome: str = "delivered"  # or "in use", "unreadable", "not delivered"
    reason: str = ""


def find_spools(directory: Path) -> list[Path]:
    """The producers' folders in a directory: a home, the spools of one, a run's or a producer's folder, oldest
    first."""
    found = {path.parent for place in PLACES for path in find(directory, place)}
    return sorted(found, key=lambda path: (_age(path / "identity"), path))


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


class Recovery:
    """Looks after the spools of `directories`, one after another. `find` tells the server."""

    def __init__(self, directories: list[Path], find: Find) -> None:
        self._directories = directories
        self._find = find
        self._left: set[Path] = set()  # with which nothing can be done
        self._not_before: dict[Path, float] = {}  # of those that a server did not take

    async def run(self, every: float) -> None:
        """Look every so many seconds; until cancelled."""
        while True:
            try:
                await self.sweep()
            except Exception:  # what others left behind must hurt neither a training nor a server
                log.exception("spools could not be recovered; they are looked at again later")
            await asyncio.sleep(every)

    async def sweep(self) -> None:
        """Deliver what is left behind now, if there is a server."""
        folders = [folder for one in self._directories for folder in find_spools(one)]
        self._left &= set(folders)  # what is gone needs no memory
        self._not_before = {folder: self._not_before[folder] for folder in folders if folder in self._not_before}
        for folder in folders:
            if folder in self._left or self._not_before.get(folder, 0.0) > time.monotonic():
                continue
            if self._find() is None:
                return
            done = await recover(folder, self._find, remove=True)
            if done.outcome == "delivered":
                log.info("recovered the spool of run %s, producer %s", done.run, done.producer)
                if done.reason:
                    self._left.add(folder)
                    log.warning("%s is delivered; %s", folder, done.reason)
            elif done.outcome == "unreadable":
                self._left.add(folder)
                log.warning("%s holds no spool that can be read: %s", folder, done.reason)
            elif done.outcome == "not delivered":
                self._not_before[folder] = time.monotonic() + AGAIN
                log.info("the spool of run %s, producer %s, stays: %s", done.run, done.producer, done.reason)
            if done.away:
                self._not_before.pop(folder)
                return


async def recover(
    folder: Path, find: Find, *, remove: bool, note: Callable[[Remains], None] = lambda remains: None
) -> Delivery:
    """Deliver one spool, if its owner has ended; with `remove` it is then deleted. `note` is called with the progress
    now and then."""
    try:
        remains = take(folder)
    except FileNotFoundError:  # another one has delivered it meanwhile
        remains = None
    except (OSError, msgspec.DecodeError) as error:
        return Delivery(folder, outcome="unreadable", reason=f"{folder / 'identity'} tells no producer: {error}")
    if remains is None:
        return Delivery(folder, run=folder.parent.name, producer=folder.name, outcome="in use")
    who = remains.identity
    done = Delivery(folder, run=who.run, producer=who.producer)
    try:
        await _survey(remains)
        done.reason, done.away = await _stream(remains, find, note)
        done.outcome = "delivered" if remains.delivered else "not delivered"
        if remains.delivered and remove:
            await _remove(remains, done)
    except OSError as error:
        done.outcome, done.reason = "not delivered", str(error)
    finally:
        if not (done.outcome == "delivered" and remove):
            remains.note_watermark()
        remains.release()
    _count(done, remains)
    return done


async def _survey(remains: Remains) -> None:
    """In pieces, on another thread, so that the loop goes on."""
    pieces = remains.survey()
    while await asyncio.to_thread(next, pieces, None) is not None:
        pass


async def _stream(remains: Remains, find: Find, note: Callable[[Remains], None]) -> tuple[str, bool]:
    """Until all is delivered or nothing moves any more; returns why it does not, and whether the server is away."""
    if not remains.next:
        remains.settled = True  # its process ended before it wrote anything
        return "", False
    link = Link(remains, find, _ignore)
    streaming = asyncio.create_task(link.run())
    moved, at = time.monotonic(), remains.committed
    try:
        while not remains.delivered:
            await asyncio.sleep(LOOK)
            note(remains)
            if remains.committed != at:
                moved, at = time.monotonic(), remains.committed
            if link.alone and not link.connected:
                return link.trouble or "no server is known", True
            if time.monotonic() - moved > PATIENCE:
                return link.trouble or f"the server took nothing for {PATIENCE:g} s", False
        return "", False
    finally:
        streaming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await streaming


async def _remove(remains: Remains, done: Delivery) -> None:
    try:
        await asyncio.to_thread(remains.remove)
    except OSError as error:
        done.reason = f"it could not be removed: {error}"


def _ignore(command: wire.Command) -> None:
    """Nobody is left who could carry it out; it expires."""


def _count(done: Delivery, remains: Remains) -> None:
    done.records = remains.next - remains.first
    done.known = max(min(remains.known, remains.next - 1) - remains.first + 1, 0)
    if remains.settled:  # else no server said what it has, and nothing was sent
        done.sent = max(remains.committed - max(remains.known, remains.first - 1), 0)
    done.quarantined = remains.quarantined
    done.lost = remains.lost
