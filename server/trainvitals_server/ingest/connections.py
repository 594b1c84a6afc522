"""The trainers that are connected now, one connection per producer. Lives on the event loop."""

import asyncio
from collections import deque
from collections.abc import Awaitable
from typing import NamedTuple

from trainvitals import wire
from trainvitals_server.ingest.session import Close, Outcome

WAITING = 16  # answers a connection may owe before its messages are left unread
MAX_BACKLOG = 1024  # messages of ours that wait behind them


class Owed(NamedTuple):
    """An answer that waits for the disk: what the store makes of the batch that begins with record `first`."""

    outcome: Awaitable[Outcome]
    first: int


class Connection:
    """What is still to be sent to one trainer, in order: messages, and answers that wait for the disk."""

    def __init__(self, producer: int, run: str, name: str) -> None:
        self.producer = producer  # row id
        self.run = run
        self.name = name  # the producer's own id
        self.outgoing: asyncio.Queue[wire.Message | Owed] = asyncio.Queue(WAITING)
        self._backlog: deque[wire.Message] = deque()  # what found no room in `outgoing`
        self.sent: set[str] = set()  # ids of the commands it was given
        self.displaced: asyncio.Future[Close] = asyncio.get_running_loop().create_future()

    def send(self, message: wire.Message) -> bool:
        """Queue a message without waiting; False where there is no room."""
        if len(self._backlog) >= MAX_BACKLOG:
            return False
        self._backlog.append(message)
        self.refill()
        return True

    def refill(self) -> None:
        """Move on what waits for room; called whenever something has been taken out."""
        while self._backlog and not self.outgoing.full():
            self.outgoing.put_nowait(self._backlog.popleft())

    def displace(self, close: Close) -> None:
        """End this connection, because a newer one has come."""
        if not self.displaced.done():
            self.displaced.set_result(close)


class Connections:
    """Connections by producer."""

    def __init__(self) -> None:
        self._open: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> Connection | None:
        """Enter a connection; returns the older one of that producer, which is to be closed."""
        older = self._open.get(connection.producer)
        self._open[connection.producer] = connection
        return older

    def dismiss(self, connection: Connection) -> bool:
        """Take a connection out; False where a newer one has taken its place."""
        if self._open.get(connection.producer) is not connection:
            return False
        del self._open[connection.producer]
        return True

    def of_run(self, run: str) -> list[Connection]:
        """Every connection of a run."""
        return [one for one in self._open.values() if one.run == run]

    def of(self, run: str, name: str) -> Connection | None:
        """The connection of a run's producer, by the producer's own id."""
        return next((one for one in self._open.values() if (one.run, one.name) == (run, name)), None)
