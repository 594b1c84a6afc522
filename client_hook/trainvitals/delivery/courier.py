"""The background thread: spools what the outbox holds, and streams the spool to the server.

Two tasks of one event loop. One empties the outbox into the spool every few milliseconds, whatever the network does;
the other holds the link to the server.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from trainvitals import wire
from trainvitals.delivery.address import Address, find_address
from trainvitals.delivery.intake import Intake
from trainvitals.delivery.link import Link
from trainvitals.delivery.outbox import Outbox
from trainvitals.delivery.spool import Spool

log = logging.getLogger("trainvitals")

TICK = 0.025  # seconds between two looks into the outbox: half of the 50 ms from step to paint
SYNC = 0.5  # seconds between two fdatasyncs
DRAIN = 5.0  # seconds `close` waits for the server to have everything
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
        self._intake = Intake(outbox, spool)
        self._find: Callable[[], Address | None] = lambda: find_address(base, server, token)
        self._online = online
        self._on_command = on_command
        self._link: Link | None = None
        self._closing = threading.Event()
        self._ticks = 0  # looks into the outbox so far
        self._deadline = 0.0
        self._waits_for_a_server = False
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
        self._stop(timeout, waits_for_a_server=False)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout + 1.0)
        return self._spool.committed == self._spool.next - 1

    def flush(self, timeout: float = FLUSH) -> None:
        """Wait, at most `timeout` seconds, until what is queued now is in the spool."""
        deadline, goal = time.monotonic() + timeout, self._ticks + 2
        while self._ticks < goal and self.running and time.monotonic() < deadline:
            time.sleep(TICK / 5)

    def retire(self) -> None:
        """Another producer goes on: stop once the server has everything, or none has come for a while. Does not
        wait."""
        self._stop(RETIRED, waits_for_a_server=True)

    def _stop(self, patience: float, waits_for_a_server: bool) -> None:
        self._deadline = time.monotonic() + patience
        self._waits_for_a_server = waits_for_a_server
        self._closing.set()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:
            log.exception("delivery stopped; training goes on, records are no longer kept")
        finally:
            with contextlib.suppress(OSError):
                self._spool.close()

    async def _main(self) -> None:
        self._link = Link(self._spool, self._find, self._on_command)
        linking = asyncio.create_task(self._link.run()) if self._online else None
        await self._keep(self._link)
        while linking and self._spool.committed < self._spool.next - 1 and time.monotonic() < self._deadline:
            if self._link.alone and not self._waits_for_a_server:
                break  # nobody there to wait for
            await asyncio.sleep(TICK)
        if linking:
            linking.cancel()
            await asyncio.gather(linking, return_exceptions=True)

    async def _keep(self, link: Link) -> None:
        synced = time.monotonic()
        while True:
            closing = self._closing.is_set()
            if self._intake.run():
                link.fresh.set()
            self._ticks += 1
            if time.monotonic() - synced > SYNC or closing:
                synced = time.monotonic()
                self._intake.sync()
            if closing:
                return
            await asyncio.sleep(TICK)
