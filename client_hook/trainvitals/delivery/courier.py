"""The background thread: spools what the outbox holds, and streams the spool to the server.

Two tasks of one event loop. One empties the outbox into the spool as soon as something is in it, whatever the network
does; the other holds the link to the server. Between two steps the thread sleeps: looking every few milliseconds would
cost more than all the rest (10 ms of CPU in a step of 0.8 s).
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trainvitals import wire
from trainvitals.delivery import clocks
from trainvitals.delivery.address import Address, find_address
from trainvitals.delivery.intake import Intake
from trainvitals.delivery.link import Link
from trainvitals.delivery.outbox import Outbox
from trainvitals.delivery.recovery import Recovery
from trainvitals.delivery.spool import Spool

log = logging.getLogger("trainvitals")

TICK = 0.025  # seconds between two looks into the outbox at least: half of the 50 ms from step to paint
SYNC = 0.5  # seconds between two fdatasyncs, where there is something new
AGAIN = 1.0  # seconds after which a spool that could not be written is tried again
DRAIN = 5.0  # seconds `close` takes at most, for the server to have everything
FAREWELL = 0.7  # of them, for the connection to be closed and the spool to be synced
SWEEP = 60.0  # seconds between two looks for the spools of processes that have ended
FLUSH = 0.5  # seconds a signal handler waits for the disk
RETIRED = 60.0  # seconds a retired courier goes on without a server


class Courier:
    """Delivers one producer's records. `on_command` is called on the background thread."""

    def __init__(
        self,
        spool: Spool,
        outbox: Outbox,
        *,
        base: Path,
        server: str | None,
        token: str | None,
        online: bool,
        on_command: Callable[[wire.Command], None],
    ) -> None:
        self._spool = spool
        self._outbox = outbox
        self._base = base
        self._intake = Intake(outbox, spool)
        self._find: Callable[[], Address | None] = lambda: find_address(base, server, token)
        self._online = online
        self._on_command = on_command
        self._link: Link | None = None
        self._closing = threading.Event()
        self._ticks = 0  # looks into the outbox so far
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bell = asyncio.Event()  # there is something to do
        self._sync_due = False
        outbox.on_fresh = self._ring
        self._deadline = 0.0
        self._waits_for_a_server = False
        self._clocks = clocks.Clocks(clocks.read())
        self._thread = threading.Thread(target=self._run, name="trainvitals", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether a server is listening now."""
        return self._link is not None and self._link.connected

    @property
    def running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self, timeout: float = DRAIN) -> bool:
        """Deliver what is queued, waiting at most `timeout` seconds; True if the server has committed everything.
        What it has not stays in the spool."""
        self.stop(timeout)
        return self.wait(timeout)

    def stop(self, timeout: float = DRAIN) -> None:
        """Begin to close; does not wait."""
        self._stop(max(timeout - FAREWELL, 0.0), waits_for_a_server=False)

    def wait(self, timeout: float) -> bool:
        """Wait until it is closed; True if the server has committed everything."""
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(max(timeout, FAREWELL))
        return self._spool.delivered

    def flush(self, timeout: float = FLUSH) -> None:
        """Wait, at most `timeout` seconds, until what is queued now is in the spool."""
        deadline, goal = time.monotonic() + timeout, self._ticks + 2
        while self._ticks < goal and self.running and time.monotonic() < deadline:
            self._ring()
            time.sleep(TICK / 5)

    def retire(self) -> None:
        """Another producer goes on: stop once the server has everything, or none has come for a while. Does not
        wait."""
        self._stop(RETIRED, waits_for_a_server=True)

    def _stop(self, patience: float, waits_for_a_server: bool) -> None:
        self._deadline = time.monotonic() + patience
        self._waits_for_a_server = waits_for_a_server
        self._closing.set()
        self._ring()

    def _ring(self) -> None:
        """Wake the thread; from any other one, without waiting."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                self._loop.call_soon_threadsafe(self._bell.set)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:
            log.exception("delivery stopped; training goes on, records are no longer kept")
        finally:
            with contextlib.suppress(OSError):
                self._spool.close()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = Link(self._spool, self._find, self._on_command)
        beside = [asyncio.create_task(self._watch_clocks())]
        linking = asyncio.create_task(self._link.run()) if self._online else None
        if self._online:
            beside.append(asyncio.create_task(self._recover(self._link)))
        await self._keep(self._link)
        for task in beside:
            task.cancel()
        while linking and not self._spool.delivered and time.monotonic() < self._deadline:
            if self._link.alone and not self._waits_for_a_server:
                break  # nobody there to wait for
            await asyncio.sleep(TICK)
        if linking:
            linking.cancel()
            beside.append(linking)
        await asyncio.gather(*beside, return_exceptions=True)

    async def _keep(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        written = False  # and not yet on the disk
        while True:
            looked, closing = loop.time(), self._closing.is_set()
            self._bell.clear()
            if self._intake.run():
                link.fresh.set()
                if not written:
                    written = True
                    loop.call_later(SYNC, self._remind)
            elif self._intake.waiting:
                loop.call_later(AGAIN, self._bell.set)
            self._ticks += 1
            if written and (closing or self._sync_due or self._intake.urgent):
                written = self._sync_due = False
                self._intake.sync()
            if closing:
                self._intake.give_up()
                return
            await self._bell.wait()
            if (early := looked + TICK - loop.time()) > 0:
                await asyncio.sleep(early)

    def _remind(self) -> None:
        self._sync_due = True
        self._bell.set()

    async def _recover(self, link: Link) -> None:
        """Once a server is there, look after the spools that ended processes left in this directory."""
        while not link.connected:
            await asyncio.sleep(AGAIN)
        await Recovery([self._base / "spool"], self._find).run(SWEEP)

    async def _watch_clocks(self) -> None:
        """Tell in the run that the machine slept or its clock was set."""
        while True:
            await asyncio.sleep(clocks.LOOK)
            for code, text in self._clocks.note(clocks.read()):
                notice = wire.Notice(step=self._intake.step, time=time.time(), code=code, text=text)
                self._outbox.put(notice)
