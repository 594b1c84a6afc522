"""The task that sends what waits in the outbox.

It claims what is due under a lease, tries every target that has not got it yet, and notes what came of it. A message
is tried at most `MOST_TRIES` times, with growing pauses drawn at random, and is then failed with the last reason. A
server that ends between sending and noting sends again, under the same id, once its lease has run out.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable

from trainvitals_server.errors import StoreBusyError
from trainvitals_server.notifications.target import SECONDS, Target
from trainvitals_server.notifications.targets import attempt
from trainvitals_server.parts import Parts
from trainvitals_server.store import notifications
from trainvitals_server.store.notifications import Claimed

MOST_TRIES = 8
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 1.0, 300.0, 3.0  # seconds; at most 1, 3, 9, 27, 81, 243, 300
LEASE_SECONDS = 3 * SECONDS  # a try, and the writer's time before and after it
TOO_OLD = 86400.0  # nobody wants to be told of what nobody could be told of for a day
AT_ONCE = 8
TICK_SECONDS = 1.0

log = logging.getLogger("trainvitals.server")


class Sender:
    """One server's. `chance` draws from 0 to 1."""

    def __init__(self, parts: Parts, chance: Callable[[], float] = random.random) -> None:
        self._parts = parts
        self._chance = chance
        self._holder = secrets.token_hex(8)

    async def run(self) -> None:
        """The task; what cannot be done now is tried again at the next tick."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                while await self.send_due():
                    pass
            except StoreBusyError:
                continue  # the writer has said so in the log
            except Exception:  # one bad tick must not silence the server for good
                log.exception("notifications could not be sent")

    async def send_due(self) -> int:
        """Try once what is due now; how many messages there were."""
        if not await asyncio.to_thread(self._any_due):
            return 0
        claimed = await self._claim()
        await asyncio.gather(*(self._send(one) for one in claimed))
        return len(claimed)

    def _any_due(self) -> bool:
        with self._parts.database.reading() as connection:
            return notifications.any_due(connection, self._parts.clock.now())

    async def _claim(self) -> list[Claimed]:
        now = self._parts.clock.now()
        lost = await self._parts.write(
            lambda tx: notifications.give_up(tx.connection, now=now, oldest=now - TOO_OLD, most_tries=MOST_TRIES)
        )
        if lost:
            log.warning("%d notifications were given up: see trainvitals_notifications_failed_total", lost)
        return await self._parts.write(
            lambda tx: notifications.claim(
                tx.connection,
                now=now,
                holder=self._holder,
                lease=now + LEASE_SECONDS,
                limit=AT_ONCE,
                most_tries=MOST_TRIES,
            )
        )

    async def _send(self, claimed: Claimed) -> None:
        """One try of one message, all targets at once."""
        wanted = [target for target in self._parts.targets if target.name not in claimed.done]
        url = self._parts.url + claimed.message.path
        reasons = await asyncio.gather(*(attempt(target, claimed.message, url) for target in wanted))
        await self._note(claimed, list(zip(wanted, reasons, strict=True)))

    async def _note(self, claimed: Claimed, outcomes: list[tuple[Target, str]]) -> None:
        done = claimed.done | {target.name for target, reason in outcomes if not reason}
        error = "; ".join(f"{target.name}: {reason}" for target, reason in outcomes if reason)
        over = claimed.tries >= MOST_TRIES
        state: notifications.State = "sent" if not error else "failed" if over else "waiting"
        if state == "failed":
            log.warning("a notification was given up after %d tries: %s", claimed.tries, error)
        due = self._parts.clock.now() + self._pause(claimed.tries)
        await self._parts.write(
            lambda tx: notifications.settle(
                tx.connection, claimed.message.id, self._holder, state=state, due=due, done=done, error=error
            )
        )

    def _pause(self, tries: int) -> float:
        """Seconds until the next try: anything up to a limit that grows with each ("full jitter")."""
        return self._chance() * min(LONGEST_PAUSE, FIRST_PAUSE * GROWTH ** (tries - 1))
