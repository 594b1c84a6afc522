"""A server's parts without its sockets, under a clock that the test turns, with a sink as its target."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from served import frame, identify, layout
from sink import Sink, receiving
from trainvitals import wire
from trainvitals_server.clock import Clock
from trainvitals_server.ingest import intake
from trainvitals_server.parts import Parts, open_parts
from trainvitals_server.settings import Settings
from trainvitals_server.store import notifications
from trainvitals_server.store.runs import Producer

NOW = 1e6


@dataclass
class Hands:
    """Of a clock."""

    now: float = NOW

    def turn(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Ward:
    """A server's parts, and trainers whose part the test plays."""

    def __init__(self, parts: Parts, hands: Hands) -> None:
        self.parts = parts
        self.hands = hands
        self.seqs: dict[str, int] = {}

    async def hello(self, run: str = "run-1", producer: str = "p-1", **identity: Any) -> Producer:
        """A trainer comes."""
        who = identify(run, producer, **{"started": self.hands.now, **identity})
        hello = wire.Hello(protocol=1, identity=who, first=0, next=0)
        found = await self.parts.write(partial(intake.enter, hello=hello))
        self.seqs[run] = found.committed + 1
        return found

    async def tell(self, who: Producer, *records: wire.Message) -> None:
        """A batch of a trainer."""
        batch = wire.Batch(first=self.seqs[who.run], records=[wire.encode(record) for record in records])
        outcome = await self.parts.write(partial(intake.take, books=self.parts.books, who=who, batch=batch))
        assert outcome.rejected == ()
        self.seqs[who.run] += len(records)

    async def break_layers(self, *layers: str, age: float = 0.0, name: str = "run-1") -> Producer:
        """A run comes, and its checkpoint's layers turn out to be broken."""
        who = await self.hello(name)
        columns = [(one, wire.NORM, stat) for one in layers for stat in wire.NORM_STATS]
        await self.tell(who, layout(*columns))
        bad = [0.0, 0.0, 1.0, float("inf"), 3.0, 0.0] * len(layers)
        await self.tell(who, frame(5, bad, time=self.hands.now - age))
        return who

    def outbox(self) -> list[dict[str, Any]]:
        """Every message, with what became of it."""
        with self.parts.database.reading() as connection:
            return notifications.find(connection)


Open = Callable[..., Any]


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    """A receiver; whatever proxies the machine has are not asked."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with receiving() as made:
        yield made


@pytest.fixture
def hands() -> Hands:
    """A clock that stands still."""
    return Hands()


@pytest.fixture
def opened(private_home: Path, hands: Hands) -> Open:
    """Opens a server's parts, with these targets; can be opened again after the end, as after a restart."""
    private_home.mkdir()

    @asynccontextmanager
    async def opened(*targets: str) -> AsyncIterator[Ward]:
        settings = Settings(directory=private_home, notify=targets)
        parts = open_parts(settings, Clock(lambda: hands.now, lambda: hands.now))
        parts.url = "http://localhost:8787"
        yield Ward(parts, hands)
        parts.database.close()
        parts.writer.close()

    return opened


@pytest.fixture
async def ward(opened: Open, sink: Sink) -> AsyncIterator[Ward]:
    """With the sink as the one target."""
    async with opened(sink.url()) as made:
        yield made
