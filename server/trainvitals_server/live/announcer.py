"""Summaries to browsers, often enough to feel live and seldom enough to cost nothing: one task for all of them."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from trainvitals_server.clock import Clock, iso
from trainvitals_server.jsontext import dumps
from trainvitals_server.live.hub import Hub
from trainvitals_server.runs.summary import Summaries

RUN_SECONDS = 0.25
LIST_TICKS = 2  # the list goes out at every second tick
LIST_SHARE = 4  # after making the list it rests at least so many times as long
HEARTBEAT_TICKS = 20

log = logging.getLogger("trainvitals.server")


@dataclass
class Announcer:
    """Sends what the hub marked as changed."""

    hub: Hub
    summaries: Summaries
    clock: Clock
    store: Callable[[], dict[str, str]] = dict  # what there is to say about the database
    broken: set[str] = field(default_factory=set)  # runs whose summary could not be made the last time
    told: dict[str, str] = field(default_factory=dict)  # what was said about the database last
    list_ticks: float = 0.0  # ticks until the list may be made again

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
        if tick % HEARTBEAT_TICKS == 0 or self.store() != self.told:
            self._beat()
        self.list_ticks -= 1
        due = tick % LIST_TICKS == 0 and self.list_ticks <= 0
        if self.hub.list_changed and due and self.hub.followers(None):
            await self._list()

    def _beat(self) -> None:
        """Tell everybody that the server is alive, and whether it can store."""
        self.told = self.store()
        text = dumps({"type": "heartbeat", "time": iso(self.clock.now()), "store": self.told})
        for client in tuple(self.hub.clients):
            client.notify("heartbeat", text)

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
        """Send every run's summary; the list is due again where that fails. With a thousand runs under way it takes a
        second or two to make: then it is made less often, so that it takes at most a fifth of the time."""
        self.hub.list_changed = False
        began = self.clock.monotonic()
        try:
            self._notify(None, "runs", {"type": "runs", "runs": await asyncio.to_thread(self.summaries.all)})
        except Exception:
            self.hub.list_changed = True
            raise
        finally:
            self.list_ticks = LIST_SHARE * (self.clock.monotonic() - began) / RUN_SECONDS

    def _notify(self, run: str | None, kind: str, message: dict[str, object]) -> None:
        text = dumps(message)
        for client in self.hub.followers(run):
            client.notify(kind, text)
