"""Summaries to browsers, often enough to feel live and seldom enough to cost nothing: one task for all of them."""

import asyncio
import logging
from dataclasses import dataclass, field

from trainvitals_server.clock import Clock, iso
from trainvitals_server.jsontext import dumps
from trainvitals_server.live.hub import Hub
from trainvitals_server.runs.summary import Summaries

RUN_SECONDS = 0.25
LIST_TICKS = 2  # the list goes out at every second tick
HEARTBEAT_TICKS = 20

log = logging.getLogger("trainvitals.server")


@dataclass
class Announcer:
    """Sends what the hub marked as changed."""

    hub: Hub
    summaries: Summaries
    clock: Clock
    broken: set[str] = field(default_factory=set)  # runs whose summary could not be made the last time

    async def run(self) -> None:
        """The task; what cannot be made now is tried again at the next tick."""
        tick = 0
        while True:
            await asyncio.sleep(RUN_SECONDS)
            tick += 1
            try:
                await self.tick(tick)
            except Exception:  # one broken summary must not silence the others for good
                log.exception("a summary could not be made")

    async def tick(self, tick: int) -> None:
        """Send what is due."""
        changed, self.hub.changed = self.hub.changed, set()
        for run in changed:
            if self.hub.followers(run):
                await self._tell(run)
        if tick % HEARTBEAT_TICKS == 0:
            text = dumps({"type": "heartbeat", "time": iso(self.clock.now())})
            for client in tuple(self.hub.clients):
                client.notify("heartbeat", text)
        if self.hub.list_changed and tick % LIST_TICKS == 0 and self.hub.followers(None):
            await self._list()

    async def _tell(self, run: str) -> None:
        """Send one run's summary; one that cannot be made is due again, and silences no other."""
        try:
            summary = await asyncio.to_thread(self.summaries.of, run)
            if summary is not None:  # it was deleted
                self._notify(run, "run", {"type": "run", "run": summary})
        except Exception:
            self.hub.changed.add(run)
            if run not in self.broken:  # once is enough in the log
                log.exception("the summary of run %r could not be made", run)
            self.broken.add(run)
        else:
            self.broken.discard(run)

    async def _list(self) -> None:
        """Send every run's summary; the list is due again where that fails."""
        self.hub.list_changed = False
        try:
            self._notify(None, "runs", {"type": "runs", "runs": await asyncio.to_thread(self.summaries.all)})
        except Exception:
            self.hub.list_changed = True
            raise

    def _notify(self, run: str | None, kind: str, message: dict[str, object]) -> None:
        text = dumps(message)
        for client in self.hub.followers(run):
            client.notify(kind, text)
