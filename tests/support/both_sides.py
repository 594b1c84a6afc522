"""Both sides of the protocol with everything but the sockets: the trainer's spool and session, the server's session
and store, and between them two queues of messages that a test can meddle with."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from served import frame, identify, layout
from spools import let_go
from trainvitals import wire
from trainvitals.delivery.ledger import Ledger
from trainvitals.delivery.reading import SpoolReader
from trainvitals.delivery.remains import Remains, take
from trainvitals.delivery.retention import SpoolFullError
from trainvitals.delivery.segments import segment_path, starts
from trainvitals.delivery.session import ProtocolError, Reaction, State
from trainvitals.delivery.session import Session as TrainerSession
from trainvitals.delivery.spool import Spool
from trainvitals_server.errors import StoreBusyError
from trainvitals_server.ingest import intake
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.session import Close, Session
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.store import runs
from trainvitals_server.store.database import Database
from trainvitals_server.store.transactions import transaction

RUN = "run-1"
Tamper = Callable[[], None]


class CrashError(Exception):
    """The server dies here."""


class Server:
    """A store and what the writer does to it, without its thread. `fail` is called inside each transaction, `die`
    between its commit and the answer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 1_000_000.0
        self.start()

    def start(self) -> None:
        """Open the database, as a fresh process does."""
        self.database = Database(self.path)
        self.connection = self.database.writer()
        self.books = Books()

    def stop(self) -> None:
        """Close it, as the end of a process does."""
        self.connection.close()
        self.database.close()

    def enter(self, hello: wire.Hello, fail: Tamper) -> runs.Producer:
        """What a hello does."""
        self.now += 1
        with transaction(self.connection):
            producer = intake.enter(Transaction(self.connection, self.now), hello)
            fail()
        return producer

    def describe(self, who: runs.Producer, layouts: wire.Layouts, fail: Tamper) -> None:
        """What layouts sent ahead do."""
        with transaction(self.connection):
            intake.describe(Transaction(self.connection, self.now), self.books, who, layouts)
            fail()

    def take(self, who: runs.Producer, batch: wire.Batch, fail: Tamper) -> intake.Outcome:
        """What a batch does."""
        self.now += 1
        try:
            with transaction(self.connection):
                outcome = intake.take(Transaction(self.connection, self.now), self.books, who, batch)
                fail()
        except BaseException:
            self.books.forget()
            raise
        return outcome

    def copy_to(self, path: Path) -> None:
        """A backup."""
        path.unlink(missing_ok=True)
        other = sqlite3.connect(path)
        self.connection.backup(other)
        other.close()

    def restore(self, path: Path) -> None:
        """The database as it was at the backup."""
        self.stop()
        for old in self.path.parent.glob(self.path.name + "*"):
            old.unlink()
        self.path.write_bytes(path.read_bytes())
        self.start()


@dataclass
class Trainer:
    """One producer: what it recorded, its spool, and its end of a connection. Once it has died, somebody else has
    claimed the spool."""

    ledger: Ledger
    reader: SpoolReader
    kinds: list[str] = field(default_factory=list)  # of each record, by number
    session: TrainerSession | None = None
    acked: int = -1  # the highest number it was told to be safe
    kept: int | None = None  # how many records its death has left in the spool

    @classmethod
    def start(cls, folder: Path, number: int, cap: int | None) -> "Trainer":
        """A new process of the run."""
        identity = identify(RUN, f"p-{number}", started=float(number + 1))
        spool = Spool(folder / RUN / f"p-{number}", identity, cap)
        return cls(spool, spool.reader())

    def copy(self, folder: Path, torn: int) -> "Trainer":
        """Somebody who has claimed a copy of the spool, made now, perhaps in the middle of a write."""
        remains = claim(Path(shutil.copytree(self.ledger.path, folder)), torn)
        return Trainer(remains, remains.reader(), self.kinds, kept=remains.next)

    @property
    def name(self) -> str:
        """The producer's id."""
        return self.ledger.identity.producer

    def record(self, kind: str) -> None:
        """Write one record to the spool: a frame, an event, or one that no server can use."""
        assert isinstance(self.ledger, Spool)
        number = len(self.kinds)
        kind = kind if number else "layout"
        record: wire.Message = {
            "layout": lambda: layout(("", wire.RUN, wire.LOSS)),
            "frame": lambda: frame(number, [float(number)]),
            "event": lambda: wire.Notice(step=number, time=1e6 + number, code="n", text=str(number)),
            "bad": lambda: wire.HealthCheck(step=-1, time=1e6, origin="auto", healthy=True),  # there is no such step
        }[kind]()
        with suppress(SpoolFullError):  # its events alone fill the spool: nothing was numbered
            self.ledger.append([wire.encode(record)])
            self.kinds.append(kind)

    def die(self, torn: int) -> None:
        """The process is killed, and the machine loses the last bytes; the spool is claimed."""
        assert isinstance(self.ledger, Spool)
        self.reader.close()
        let_go(self.ledger)
        remains = claim(self.ledger.path, torn)
        self.ledger, self.reader, self.kept = remains, remains.reader(), remains.next

    def end(self) -> None:
        """Let go of the files."""
        self.reader.close()
        if isinstance(self.ledger, Remains):
            self.ledger.release()
        elif isinstance(self.ledger, Spool):
            self.ledger.close()


def claim(path: Path, torn: int) -> Remains:
    """Take over a spool that has lost its last bytes, and read it through."""
    for start in starts(path)[-1:] if torn else ():
        segment = segment_path(path, start)
        os.truncate(segment, max(segment.stat().st_size - torn, 0))
    remains = take(path)
    assert remains is not None
    for _ in remains.survey():
        pass
    return remains


class Channel:
    """A connection between one trainer and the server: two queues, and a session at either end."""

    def __init__(self, trainer: Trainer, server: Server) -> None:
        self.trainer = trainer
        self.server = server
        self.to_server: list[bytes] = []
        self.to_trainer: list[bytes] = []
        self.session = Session()
        self.producer: runs.Producer | None = None
        self.ended = False
        trainer.session = TrainerSession(trainer.ledger.identity)
        ledger = trainer.ledger
        self.to_server.append(wire.encode(trainer.session.hello(ledger.first, ledger.next, ledger.ended)))

    def end(self) -> None:
        """Both ends are gone, and what was on the way with them."""
        self.ended = True
        self.to_server.clear()
        self.to_trainer.clear()
        self.trainer.session = None

    def send(self) -> bool:
        """Let the trainer send a batch; whether it had one and was allowed to."""
        session = self.trainer.session
        if session is None or not session.may_send():
            return False
        batch = self.trainer.reader.batch()
        if batch is None:
            return False
        session.sent(batch)
        self.to_server.append(wire.encode(batch))
        return True

    def serve(self, fail: Tamper = lambda: None, die: Tamper = lambda: None) -> None:
        """Let the server handle its next message. Raises CrashError."""
        message = self.session.receive(self.to_server.pop(0))
        if isinstance(message, Close):
            self.end()
        elif isinstance(message, wire.Hello):
            try:
                self.producer = self.server.enter(message, fail)
            except StoreBusyError:
                self.end()  # "come again"
                return
            die()
            self._answer(self.session.welcome(self.producer.committed))
        elif isinstance(message, wire.Layouts):
            assert self.producer is not None
            try:
                self.server.describe(self.producer, message, fail)
            except StoreBusyError:
                self.end()
        else:
            assert self.producer is not None
            try:
                outcome = self.server.take(self.producer, message, fail)
            except StoreBusyError as error:
                self._answer(self.session.retry(message.first, str(error)))
                return
            die()
            self._answer(*self.session.answer(message.first, outcome))

    def hear(self) -> None:
        """Let the trainer handle its next message."""
        session = self.trainer.session
        assert session is not None
        greeting = session.state is State.GREETING
        try:
            reaction = session.receive(wire.decode_to_trainer(self.to_trainer.pop(0)))
            if greeting and reaction.committed is not None:
                self.trainer.ledger.welcome(reaction.committed)
                layouts = self.trainer.ledger.missing_layouts(session.committed)
                self.to_server += [wire.encode(one) for one in layouts]
            self._react(reaction)
        except ProtocolError:
            self.end()

    def _answer(self, *messages: wire.Message) -> None:
        self.to_trainer += [wire.encode(message) for message in messages]

    def _react(self, reaction: Reaction) -> None:
        trainer = self.trainer
        if reaction.committed is not None:
            trainer.ledger.acknowledge(reaction.committed)
            trainer.acked = max(trainer.acked, trainer.ledger.committed)
        if reaction.set_aside is not None:
            trainer.ledger.set_aside(reaction.set_aside, reaction.reason)
        if reaction.rewind is not None:
            trainer.reader.seek(reaction.rewind)


@dataclass(frozen=True)
class Stored:
    """What the database has of one producer: its watermark, the numbers of its records in the order of storing, and how
    many records behind them tell of its end."""

    committed: int
    frames: list[int]
    events: list[int]
    aside: list[int]
    gaps: list[range]
    ending: int = 0

    def numbers(self) -> list[int]:
        """Every number accounted for, each as often as it is."""
        return sorted([*self.frames, *self.events, *self.aside, *(one for gap in self.gaps for one in gap)])


def stored(connection: sqlite3.Connection, trainer: Trainer) -> Stored:
    """Read it from the tables themselves. A frame's number is its step here."""
    row = connection.execute("SELECT id, committed FROM producers WHERE producer = ?", (trainer.name,)).fetchone()
    if row is None:
        return Stored(-1, [], [], [], [])
    ending = connection.execute("SELECT count(*) FROM events WHERE producer = ? AND seq > ?", row).fetchone()[0]
    frames = connection.execute(
        "SELECT steps FROM frames JOIN layouts ON layouts.id = frames.layout WHERE producer = ? ORDER BY frames.id",
        (row[0],),
    ).fetchall()
    events, gaps = [], []
    for seq, data in connection.execute(
        "SELECT seq, record FROM events WHERE producer = ? AND seq BETWEEN 0 AND ? ORDER BY id", row
    ).fetchall():
        record = wire.decode_record(data)
        if isinstance(record, wire.Gap):
            # without `through` what was lost had no numbers, and the gap has one of its own
            gaps.append(
                range(record.through - record.count + 1, record.through + 1) if record.through else range(seq, seq + 1)
            )
        else:
            events.append(seq)
    aside = connection.execute("SELECT seq FROM quarantine WHERE producer = ? ORDER BY id", (row[0],)).fetchall()
    steps = [int(step) for one in frames for step in np.frombuffer(one[0], "<i8")]
    return Stored(row[1], steps, events, [one[0] for one in aside], gaps, ending)
