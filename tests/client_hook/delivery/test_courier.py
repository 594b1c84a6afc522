"""Delivery over a real websocket, to a server that misbehaves in every way it may."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from trainvitals import wire
from trainvitals.delivery import clocks, ledger, quarantine, retention
from trainvitals.delivery import link as link_module
from trainvitals.delivery import spool as spool_module
from trainvitals.delivery.courier import Courier
from trainvitals.delivery.outbox import Outbox
from trainvitals.delivery.reading import SpoolReader
from trainvitals.delivery.spool import Spool

IDENTITY = wire.Identity(run="r", producer="p", name="n")


def notice(i: int) -> wire.Notice:
    return wire.Notice(step=i, time=0.0, code="n", text=str(i))


class FakeServer:
    """Speaks the server's side of the wire in a thread; `on_batch` may answer instead of an ack."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.hellos: list[wire.Hello] = []
        self.tokens: list[str | None] = []
        self.refuse = 0
        self.speaks = wire.PROTOCOL
        self.deaf = False  # reads nothing after the next hello, not even pings
        self.on_batch: Callable[[wire.Batch], wire.ToTrainer | None] | None = None
        self.connections: list[ServerConnection] = []
        self.deafened: list[ServerConnection] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Server | None = None

    def start(self) -> "FakeServer":
        if not self._thread.is_alive():
            self._thread.start()
        self.call(self._serve())
        return self

    def stop(self) -> None:
        async def close() -> None:
            assert self._server is not None
            for connection in self.deafened:
                connection.transport.abort()
            self._server.close(code=1012)
            await self._server.wait_closed()

        self.call(close())

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def say(self, message: wire.Message) -> None:
        self.call(self.connections[-1].send(wire.encode(message)))

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _serve(self) -> None:
        self._server = await serve(self._talk, "127.0.0.1", self.port, process_request=self._admit)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        self.tokens.append(request.headers.get("Authorization"))
        return connection.respond(self.refuse, "no\n") if self.refuse else None  # type: ignore[arg-type]

    async def _talk(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        async for data in connection:
            assert isinstance(data, bytes)
            message = wire.decode_to_server(data)
            if isinstance(message, wire.Hello):
                self.hellos.append(message)
                if self.speaks != wire.PROTOCOL:
                    await connection.close(1008, f"expected protocol {self.speaks}, got {message.protocol}")
                    continue
                if self.deaf:
                    connection.transport.pause_reading()
                    self.deafened.append(connection)
                await connection.send(wire.encode(wire.Welcome(protocol=wire.PROTOCOL, committed=len(self.stored) - 1)))
                continue
            answer = self.on_batch(message) if self.on_batch else self.accept(message)
            if answer is not None:
                await connection.send(wire.encode(answer))

    def accept(self, batch: wire.Batch) -> wire.ToTrainer:
        if batch.first > len(self.stored):
            return wire.Nack(kind="gap", seq=len(self.stored))
        self.stored += batch.records[len(self.stored) - batch.first :]
        return wire.Ack(seq=len(self.stored) - 1)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server on a free port."""
    made = FakeServer().start()
    yield made
    made.end()


@pytest.fixture
def late_server() -> Iterator[FakeServer]:
    """One that is not there before the test starts it, on a port that is known already."""
    made = FakeServer().start()
    made.stop()
    yield made
    made.end()


class Sender:
    """A courier with its outbox and spool."""

    def __init__(self, base: Path, url: str | None, online: bool = True) -> None:
        self.commands: list[wire.Command] = []
        self.outbox = Outbox()
        self.spool = Spool(base / "spool/r/p", IDENTITY)
        self.courier = Courier(
            self.spool,
            self.outbox,
            base=base,
            server=url,
            token="secret",  # noqa: S106 - of this test
            online=online,
            on_command=self.commands.append,
        )
        self.courier.start()

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.outbox.put(notice(number))

    def end(self) -> None:
        """Close at once what the test may have closed already, and wait until the thread is gone."""
        self.courier.stop(0.0)
        until(lambda: not self.courier.running)


MakeSender = Callable[..., Sender]


def until(condition: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def numbers(stored: list[bytes]) -> list[int]:
    return [record.step for record in map(wire.decode_record, stored) if isinstance(record, wire.Notice)]


@pytest.fixture
def make_sender(tmp_path: Path) -> Iterator[MakeSender]:
    """Makes senders, which end with the test, however that ends."""
    made: list[Sender] = []

    def make(url: str | None, online: bool = True) -> Sender:
        made.append(Sender(tmp_path, url, online))
        return made[-1]

    yield make
    for one in made:
        one.end()


@pytest.fixture
def sender(server: FakeServer, make_sender: MakeSender) -> Sender:
    """One that speaks to the server above."""
    return make_sender(f"http://127.0.0.1:{server.port}")


def test_records_arrive_in_order_and_the_token_in_a_header(sender: Sender, server: FakeServer) -> None:
    """Never in the address."""
    sender.put(*range(50))
    assert sender.courier.close()
    assert numbers(server.stored) == list(range(50))
    assert server.tokens == ["Bearer secret"]


def test_the_server_may_come_later(late_server: FakeServer, make_sender: MakeSender) -> None:
    """What was spooled before is delivered then."""
    sender = make_sender(f"http://127.0.0.1:{late_server.port}")
    sender.put(1, 2, 3)
    until(lambda: sender.spool.next == 3)
    late_server.start()
    until(lambda: numbers(late_server.stored) == [1, 2, 3])
    assert sender.courier.close()


def test_a_restarted_server_gets_what_it_missed(sender: Sender, server: FakeServer) -> None:
    """And nothing twice."""
    sender.put(*range(5))
    until(lambda: len(server.stored) == 5)
    server.stop()
    sender.put(*range(5, 10))
    until(lambda: sender.spool.next == 10)
    server.start()
    until(lambda: numbers(server.stored) == list(range(10)))


def test_a_server_that_lost_its_memory_gets_everything_again(sender: Sender, server: FakeServer) -> None:
    """As far as the spool reaches: a database restored from an old backup."""
    sender.put(*range(5))
    until(lambda: sender.spool.committed == 4)
    server.stop()
    del server.stored[2:]
    server.start()
    until(lambda: numbers(server.stored) == list(range(5)))


def test_a_gap_nack_is_answered_from_there(sender: Sender, server: FakeServer) -> None:
    """The stream rewinds."""
    answers = [wire.Nack(kind="gap", seq=0)]
    server.on_batch = lambda batch: answers.pop() if answers else server.accept(batch)
    sender.put(*range(5))
    until(lambda: numbers(server.stored) == list(range(5)))


def test_a_busy_server_is_asked_again(sender: Sender, server: FakeServer) -> None:
    """Nothing is dropped for it."""
    answers: list[wire.ToTrainer] = [wire.Nack(kind="retry", seq=0, after=0.05, reason="database is locked")]
    server.on_batch = lambda batch: answers.pop() if answers else server.accept(batch)
    sender.put(*range(5))
    until(lambda: numbers(server.stored) == list(range(5)))


def test_a_record_refused_for_good_does_not_stop_the_others(sender: Sender, server: FakeServer) -> None:
    """It is said, and the stream goes on behind it."""

    def answer(batch: wire.Batch) -> wire.ToTrainer:
        if batch.first == 0:
            server.stored.append(b"")
            return wire.Nack(kind="permanent", seq=0, reason="bad record")
        return server.accept(batch)

    server.on_batch = answer
    sender.put(*range(3))
    until(lambda: len(server.stored) == 3)
    assert numbers(server.stored[1:]) == [1, 2]


def test_what_is_refused_is_kept_and_counted(sender: Sender, server: FakeServer) -> None:
    """In a file of its own, with the reason; the folder stays for it when all else is delivered."""
    server.on_batch = lambda batch: (
        wire.Nack(kind="permanent", seq=1, reason="bad record") if batch.first < 2 else (wire.Ack(seq=batch.last))
    )
    sender.put(*range(3))
    until(lambda: sender.spool.committed == 2)
    assert sender.spool.quarantined == 1
    assert sender.courier.close()
    ((seq, aside),) = quarantine.read(sender.spool.path)
    assert (seq, aside.reason, wire.decode_record(aside.record)) == (1, "bad record", notice(1))
    assert [path.name for path in sender.spool.path.iterdir()] == ["quarantine"]


def test_only_the_latest_refusals_are_remembered(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that refuses everything for weeks costs no memory; what it refuses twice in a row counts once."""
    monkeypatch.setattr(ledger, "REMEMBERED", 2)
    for seq in (0, 0, 1, 2, 2):
        sender.spool.set_aside(seq, "no")
    assert sender.spool.quarantined == 3
    assert list(sender.spool._refused) == [1, 2]


def test_a_second_server_gets_what_the_first_one_had(
    sender: Sender, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acknowledged records are kept while there is room: a new database, or a backup of long ago, misses nothing."""
    monkeypatch.setattr(retention, "SEGMENT_BYTES", 200)
    for number in range(40):
        sender.put(number)
        until(lambda n=number: sender.spool.committed == n)  # type: ignore[misc]
    assert len(list(sender.spool.path.glob("*.seg"))) > 3
    server.stop()
    server.stored.clear()
    server.start()
    sender.put(40)
    until(lambda: numbers(server.stored) == list(range(41)))
    assert server.hellos[-1].first == 0


@pytest.mark.parametrize(("speaks", "side"), [(wire.PROTOCOL + 1, "trainer"), (1, "server")])
def test_a_server_of_another_protocol_is_named_once_with_what_to_do(
    speaks: int,
    side: str,
    sender: Sender,
    server: FakeServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Records wait in the spool until one of the two is updated; closing does not wait for that."""
    monkeypatch.setattr(link_module, "BACKOFF", (0.05, 0.1))
    until(lambda: sender.courier.connected)
    server.speaks = speaks
    server.stop()
    server.start()
    until(lambda: len(server.hellos) > 4)
    sender.put(1, 2)
    until(lambda: sender.spool.next == 2)
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    (said,) = [text for text in warnings if "protocol" in text]
    assert f"speaks protocol {speaks}, this trainer {wire.PROTOCOL}: update trainvitals on the {side}'s side" in said
    server.speaks = wire.PROTOCOL
    until(lambda: numbers(server.stored) == [1, 2])


@pytest.mark.parametrize("load", [0, 400])
def test_a_server_that_falls_silent_is_left(
    load: int, sender: Sender, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A black hole: nothing is answered, and with enough on its way not even sending ends. After two ping times
    (40 s in earnest) another connection is tried."""
    until(lambda: sender.courier.connected)
    monkeypatch.setattr(link_module, "PING", 0.2)
    server.deaf = True
    server.stop()
    server.start()
    until(lambda: len(server.hellos) == 2)
    server.deaf = False
    for number in range(load):
        sender.outbox.put(wire.Notice(step=number, time=0.0, code="n", text="x" * 100_000))
    until(lambda: len(server.hellos) == 3, 10)
    sender.put(load)
    until(lambda: numbers(server.stored) == list(range(load + 1)))


def test_a_server_that_says_anything_is_there(
    sender: Sender, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow line the answer to a ping waits behind what was sent before; an acknowledgement is as good."""
    until(lambda: sender.courier.connected)
    monkeypatch.setattr(link_module, "PING", 0.2)
    server.deaf = True
    server.stop()
    server.start()
    until(lambda: len(server.hellos) == 2)
    server.deaf = False
    said, begin = 0, time.monotonic()
    while time.monotonic() < begin + 5 * link_module.PING:
        server.say(wire.Ack(seq=-1))
        said += 1
        threading.Event().wait(link_module.PING / 10)
    assert len(server.hellos) == 2, said
    until(lambda: len(server.hellos) == 3)


def test_a_wrong_token_is_said_once_and_training_goes_on(
    sender: Sender, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Records wait in the spool."""
    caplog.set_level("INFO", "trainvitals")
    until(lambda: len(server.hellos) == 1)  # a connection that is just being accepted would be left hanging
    server.refuse = 401
    server.stop()
    server.start()
    until(lambda: len(server.tokens) > 3)
    sender.put(1)
    server.refuse = 0
    until(lambda: numbers(server.stored) == [1])
    assert caplog.text.count("answered 401") == 1


def test_an_ill_formed_answer_ends_the_connection_only(sender: Sender, server: FakeServer) -> None:
    """The next one is a new beginning."""
    sender.put(0)
    until(lambda: len(server.stored) == 1)
    server.call(server.connections[-1].send(b"\xc1\xc1"))
    until(lambda: len(server.hellos) == 2)
    sender.put(1)
    until(lambda: numbers(server.stored) == [0, 1])


def test_commands_are_handed_on(sender: Sender, server: FakeServer) -> None:
    """On the same connection, the other way."""
    until(lambda: server.connections)
    until(lambda: sender.courier.connected)
    command = wire.Command(id="c", producer="p", action="sanitize", ttl=30.0, expires=1.0)
    server.say(command)
    until(lambda: sender.commands == [command])


def test_offline_is_spooled_only(tmp_path: Path, server: FakeServer, make_sender: MakeSender) -> None:
    """No connection is tried."""
    sender = make_sender(f"http://127.0.0.1:{server.port}", online=False)
    sender.put(1, 2)
    assert not sender.courier.close()
    assert server.tokens == []
    reader = SpoolReader(tmp_path / "spool/r/p")
    reader.seek(0)
    batch = reader.batch()
    reader.close()
    assert batch is not None
    assert numbers(batch.records) == [1, 2]


def test_closing_without_a_server_does_not_wait(make_sender: MakeSender) -> None:
    """There is nobody to wait for."""
    sender = make_sender("http://127.0.0.1:9")
    sender.put(1)
    started = time.monotonic()
    assert not sender.courier.close()
    assert time.monotonic() - started < 3


def test_a_retired_courier_stays_until_all_is_delivered(late_server: FakeServer, make_sender: MakeSender) -> None:
    """Another producer has taken over; the old one's records still arrive."""
    sender = make_sender(f"http://127.0.0.1:{late_server.port}")
    sender.put(1, 2)
    sender.courier.retire()
    late_server.start()
    until(lambda: numbers(late_server.stored) == [1, 2])
    until(lambda: not sender.courier.running)


def test_a_full_disk_heals(server: FakeServer, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records wait in memory, and come when there is room again, though nothing new does."""

    def no_space(descriptor: int, data: bytes) -> None:
        raise OSError("no space")

    sender = make_sender(f"http://127.0.0.1:{server.port}")
    until(lambda: sender.courier.connected)
    with monkeypatch.context() as full:
        full.setattr(spool_module, "write_all", no_space)
        sender.put(1, 2)
        until(lambda: sender.outbox.trouble)
    until(lambda: numbers(server.stored) == [1, 2])
    assert sender.outbox.dropped == 0


def test_what_is_written_reaches_the_disk_though_nothing_follows(
    make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every burst; between them the thread sleeps, and nothing is put on the disk again."""
    sender = make_sender(None, online=False)
    synced: list[int] = []
    sync = sender.spool.sync
    monkeypatch.setattr(sender.spool, "sync", lambda: (sync(), synced.append(sender.spool.next)))
    for burst in (1, 2):
        sender.put(2 * burst, 2 * burst + 1)
        until(lambda n=burst: len(synced) == n)  # type: ignore[misc]
    assert synced == [2, 4]
    sender.courier.close()
    assert synced == [2, 4]


def test_sleep_and_set_clocks_are_told_in_the_run(
    server: FakeServer, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the newest step, by clocks of the test's own."""
    now = [clocks.Reading(0.0, 0.0, 1e9)]
    monkeypatch.setattr(clocks, "read", lambda: now[0])
    monkeypatch.setattr(clocks, "LOOK", 0.02)
    sender = make_sender(f"http://127.0.0.1:{server.port}")
    sender.put(41)
    until(lambda: numbers(server.stored) == [41])
    now[0] = clocks.Reading(1.0, 7501.0, 1e9 + 7501)
    until(lambda: len(server.stored) == 2)
    now[0] = clocks.Reading(2.0, 7502.0, 1e9)
    until(lambda: len(server.stored) == 3)
    told = [wire.decode_record(data) for data in server.stored[1:]]
    assert [(one.step, one.code, one.text) for one in told if isinstance(one, wire.Notice)] == [
        (41, "suspended", "the machine slept for 2 h 5 min"),
        (41, "clock", "the wall clock was set back by 2 h 5 min"),
    ]
