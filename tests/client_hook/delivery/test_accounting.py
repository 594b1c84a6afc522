"""Whatever happens in whatever order, what a server stores and what gaps count is what was produced, to the record."""

import copy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spools import append, frame, identity, notice
from trainvitals import wire
from trainvitals.delivery.segments import segment_path, starts
from trainvitals.delivery.spool import Spool

CAP = 32 << 10


@dataclass
class Model:
    """A server as it should be: a watermark, what is stored, and what it knows to be lost."""

    committed: int = -1
    stored: dict[int, wire.Record] = field(default_factory=dict)
    lost: int = 0

    def take(self, batch: wire.Batch) -> None:
        """As the intake does. Raises AssertionError for a hole."""
        assert batch.first <= self.committed + 1, f"expected {self.committed + 1} or less, got {batch.first}"
        for seq, data in enumerate(batch.records, batch.first):
            record = wire.decode_record(data)
            last = wire.spans(seq, data)
            if last is not None and isinstance(record, wire.Gap):
                assert data is batch.records[-1]
                self.lost += max(record.count - max(self.committed - seq + 1, 0), 0) if last > self.committed else 0
            elif seq > self.committed:
                self.stored[seq] = record
            self.committed = max(self.committed, seq if last is None else last)


class World:
    """A spool, its reader, a server, and a backup of the server; each method is something that may happen."""

    def __init__(self, path: Path) -> None:
        self.spool = Spool(path, identity(), cap=CAP)
        self.server, self.backup, self.reader = Model(), Model(), self.spool.reader()
        self.step = self.told = 0
        self.spoiled = False
        self.reconnect()

    def reconnect(self, _: int = 0) -> None:
        missing = self.spool.first - self.server.committed - 1
        if missing > 0:  # what the hello tells
            self.server.lost, self.server.committed = self.server.lost + missing, self.spool.first - 1
        self.spool.welcome(self.server.committed)
        self.reader.seek(self.server.committed + 1)

    def frames(self, number: int) -> None:
        for _ in range(number):
            append(self.spool, frame(self.step, 400))
            self.step += 1

    def events(self, number: int) -> None:
        for _ in range(number % 5):
            append(self.spool, notice(self.step))
            self.told += 1

    def send(self, number: int) -> None:
        for _ in range(number % 5):
            if batch := self.reader.batch():
                self.server.take(batch)
                self.spool.acknowledge(self.server.committed)

    def save(self, _: int) -> None:
        self.backup = copy.deepcopy(self.server)

    def restore(self, _: int) -> None:
        self.server = copy.deepcopy(self.backup)
        self.reconnect()

    def damage(self, number: int) -> None:
        begins = starts(self.spool.path)[:-1]
        path = segment_path(self.spool.path, begins[number % len(begins)]) if begins else None
        data = bytearray(path.read_bytes()) if path else bytearray()
        if path and data:
            data[number * 97 % len(data)] ^= 1 << number % 8
            path.write_bytes(data)
            self.spoiled = True

    def end(self) -> None:
        self.reconnect()
        while batch := self.reader.batch():
            self.server.take(batch)
        self.reader.close()
        self.spool.close()


NAMES = ("reconnect", "frames", "frames", "frames", "events", "send", "save", "restore", "damage")


@given(steps=st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 120)), max_size=40))
@settings(max_examples=40)
def test_stored_and_lost_is_produced(steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over outages, thinning, reconnections, backups that are restored, and bits that flip in old segments. Events are
    all there, unless a server was restored that is older than what the spool still holds, or bits flipped."""
    world = World(tmp_path_factory.mktemp("s") / "spool/r/p")
    for name, number in steps:
        getattr(world, name)(number)
    world.end()
    server, spool = world.server, world.spool
    assert server.committed == spool.next - 1
    assert len(server.stored) + server.lost == spool.next
    if not world.spoiled and spool.first == 0:
        assert sum(isinstance(one, wire.Notice) for one in server.stored.values()) == world.told
