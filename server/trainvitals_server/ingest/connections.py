"""The trainers that are connected now, one connection per producer. Lives on the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from math import inf

from trainvitals import wire
from trainvitals_server.ingest.session import Close

WAITING = 16  # batches a connection may be owed an answer for before its messages are left unread
MAX_BACKLOG = 1024  # messages that wait to be sent
MAX_CONNECTIONS = 4096  # trainers; see `MAX_PRODUCERS` of the books


class Connection:
    """What is still to be sent to one trainer, in order."""

    def __init__(
        self, producer: int, run: str, name: str, *, ended: bool = False, silence: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.producer = producer  # row id
        self.run = run
        self.name = name  # the producer's own id
        self.ended = ended  # its process has; this brings what it left
        self.silence = silence  # seconds since anything came from it
        self.sent: set[str] = set()  # ids of the commands it was given
        self.displaced: asyncio.Future[Close] = asyncio.get_running_loop().create_future()
        self._outgoing: deque[wire.Message] = deque()
        self._answered = 0  # batches that these answer
        self._error: BaseException | None = None
        self._ready = asyncio.Event()
        self._room = asyncio.Semaphore(WAITING)

    def send(self, message: wire.Message) -> bool:
        """Queue a message without waiting; False where there is no room."""
        if len(self._outgoing) >= MAX_BACKLOG:
            return False
        self.answer([message], 0)
        return True

    async def room(self) -> None:
        """Wait until another batch may be taken in. Each that is has to be answered."""
        await self._room.acquire()

    def answer(self, messages: Iterable[wire.Message], batches: int) -> None:
        """Queue what there is to say to so many batches."""
        self._outgoing += messages
        self._answered += batches
        self._ready.set()

    def fail(self, error: BaseException) -> None:
        """End this connection, because what it sent could not be dealt with."""
        self._error = error
        self._ready.set()

    async def outgoing(self) -> tuple[list[wire.Message], int]:
        """Wait for messages to be sent, and how many batches they answer. Raises what the connection failed with."""
        await self._ready.wait()
        self._ready.clear()
        if self._error is not None:
            raise self._error
        messages, batches = list(self._outgoing), self._answered
        self._outgoing.clear()
        self._answered = 0
        return messages, batches

    def make_room(self, batches: int) -> None:
        """So many answers have been sent: as many batches may be taken in."""
        for _ in range(batches):
            self._room.release()

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

    def silences(self) -> dict[str, float]:
        """For how many seconds nothing has come from any of the living trainers of each run."""
        found: dict[str, float] = {}
        for one in self._open.values():
            if not one.ended:
                found[one.run] = min(one.silence(), found.get(one.run, inf))
        return found

    def of(self, run: str, name: str) -> Connection | None:
        """The connection of a run's producer, by the producer's own id."""
        return next((one for one in self._open.values() if (one.run, one.name) == (run, name)), None)
