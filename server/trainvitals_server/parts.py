"""The parts of a running server, wired together: what requests, sockets and tasks reach."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

from starlette.requests import HTTPConnection

from trainvitals_server.auth.attempts import Attempts
from trainvitals_server.auth.sessions import Sessions
from trainvitals_server.auth.tokens import Tokens
from trainvitals_server.changes import Changes
from trainvitals_server.clock import Clock
from trainvitals_server.commands.delivery import deliver
from trainvitals_server.ingest.books import Books
from trainvitals_server.ingest.connections import Connections
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.ingest.writer import Job, Writer, tell
from trainvitals_server.live.hub import Hub
from trainvitals_server.notifications.outbox import Outbox
from trainvitals_server.notifications.target import Target
from trainvitals_server.notifications.targets import open_targets
from trainvitals_server.runs.pulse import Pulse
from trainvitals_server.runs.story import Stories
from trainvitals_server.runs.summary import Summaries
from trainvitals_server.settings import Settings
from trainvitals_server.store import runs, sessions
from trainvitals_server.store.database import Database

T = TypeVar("T")
log = logging.getLogger("trainvitals.server")


@dataclass
class Parts:
    """One server's. Everything but the database and the writer lives on the event loop."""

    settings: Settings
    clock: Clock
    database: Database
    tokens: Tokens
    sessions: Sessions
    attempts: Attempts
    books: Books
    writer: Writer
    pulse: Pulse
    stories: Stories
    summaries: Summaries
    targets: Sequence[Target] = ()
    hub: Hub = field(default_factory=Hub)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    upkeep: asyncio.Event = field(default_factory=asyncio.Event)  # set where something is to be deleted
    row_ids: asyncio.Lock = field(default_factory=asyncio.Lock)  # held where ids outlive a transaction, or are freed
    carrying: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while a file goes in or out
    importing: set[str] = field(default_factory=set)
    overfull: str = ""  # why the database cannot be kept as small as was asked
    connections: Connections = field(default_factory=Connections)
    url: str = ""

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """Have work done by the writer; returns after the commit. Raises what it raised, or `StoreBusyError`."""
        return await asyncio.wrap_future(self.writer.submit(work))

    def committed(self, changes: Changes) -> None:
        """Pass on what was committed; called on the event loop, in the order of the commits. What fails of one run
        is logged, and keeps nothing from the others."""
        for run, changed in changes.items():
            alone = Changes()
            alone[run] = changed
            for step in (self._retell, self._note_pulse, self.summaries.note, self.hub.publish, self._deliver):
                try:
                    step(alone)
                except Exception:  # the commit stands, and the next one must still be passed on
                    log.exception("what was committed of run %s could not be passed on", run)

    def _retell(self, changes: Changes) -> None:
        for run, changed in changes.items():
            if changed.retold:
                self.stories.forget(run)

    def _note_pulse(self, changes: Changes) -> None:
        self.pulse.note(changes, self.clock.monotonic())

    def _deliver(self, changes: Changes) -> None:
        deliver(self.connections, changes, self.clock.now())


def open_parts(settings: Settings, clock: Clock) -> Parts:
    """Open the database, read what was left of the last time, and start the writer. Call on the event loop."""
    loop = asyncio.get_running_loop()
    database, tokens, books, stories = Database(settings.database), Tokens(settings.directory), Books(), Stories()
    with database.reading() as connection:
        known = sessions.valid(connection, tokens.fingerprint, clock.now())
        pulse = Pulse(runs.unfinished(connection), clock.monotonic())

    targets = open_targets(settings.notify)
    finish = Outbox().fill if targets else lambda tx: None  # with nowhere to send to, nothing is put in

    def publish(changes: Changes) -> None:
        loop.call_soon_threadsafe(parts.committed, changes)

    def answer(jobs: list[Job]) -> None:
        try:
            loop.call_soon_threadsafe(tell, jobs)  # one call for all of them: each wakes the loop
        except RuntimeError:  # the loop has ended, and nobody on it waits any more
            tell(jobs)

    parts = Parts(
        settings=settings,
        clock=clock,
        database=database,
        tokens=tokens,
        sessions=Sessions(tokens.fingerprint, known, clock),
        attempts=Attempts(clock),
        books=books,
        writer=Writer(database, publish, books.undo, clock, begin=books.begin, finish=finish, answer=answer),
        pulse=pulse,
        stories=stories,
        summaries=Summaries(database, pulse, stories),
        targets=targets,
    )
    parts.writer.start()
    return parts


def parts_of(connection: HTTPConnection) -> Parts:
    """The parts of the server that serves this request."""
    return cast(Parts, connection.app.state.parts)
