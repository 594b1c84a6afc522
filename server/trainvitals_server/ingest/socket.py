"""`/ws/trainer`: the thin shell around a session. Reads, hands batches to the writer, and answers in order.

Up to `WAITING` batches are on their way to the disk at once; further ones are left unread, which holds the trainer's
sender back and nothing else.
"""

import asyncio
from concurrent.futures import Future
from functools import partial

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from trainvitals import wire
from trainvitals_server.auth.roles import needs
from trainvitals_server.commands.delivery import hand_over
from trainvitals_server.errors import SlowReadError, StoreBusyError
from trainvitals_server.ingest import intake
from trainvitals_server.ingest.connections import MAX_CONNECTIONS, Connection
from trainvitals_server.ingest.inbox import Haul, Inbox, Told
from trainvitals_server.ingest.session import HELLO_SECONDS, NOT_DECODABLE, POLICY, Close, Session
from trainvitals_server.parts import Parts, parts_of
from trainvitals_server.runs import parting
from trainvitals_server.store import commands, runs
from trainvitals_server.store.database import ReadError

TRY_AGAIN = 1013

router = APIRouter()


@router.websocket("/ws/trainer", dependencies=[needs("ingest")])
async def trainer(websocket: WebSocket) -> None:
    """One trainer's connection, from its hello to its end."""
    await websocket.accept()
    link = Link(websocket, parts_of(websocket))
    try:
        close = await link.run()
        await websocket.close(close.code, close.reason)
    except WebSocketDisconnect:
        pass  # it went away; its records up to the last ack are safe, the rest is in its spool


class Link:
    """A websocket, its session, and the parts it needs."""

    def __init__(self, websocket: WebSocket, parts: Parts) -> None:
        self._websocket = websocket
        self._parts = parts
        self._session = Session()

    async def run(self) -> Close:
        """Serve until the session ends by its own rules. Raises `WebSocketDisconnect` where the peer ends it."""
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                hello = await self._receive()
        except TimeoutError:
            return self._session.close(POLICY, f"expected a hello within {HELLO_SECONDS:g} s, got none")
        if not isinstance(hello, wire.Hello):
            return hello if isinstance(hello, Close) else self._session.close(POLICY, "expected a hello")
        producer = await self._enter(hello)
        if isinstance(producer, Close):
            return producer
        try:
            return await self._serve(producer)
        except (ReadError, SlowReadError) as error:
            return self._session.close(TRY_AGAIN, f"the database cannot be read: {error}")

    async def _enter(self, hello: wire.Hello) -> runs.Producer | Close:
        if len(self._parts.connections) >= MAX_CONNECTIONS:
            return self._session.close(TRY_AGAIN, f"expected at most {MAX_CONNECTIONS} trainers, got another one")
        if hello.ended and self._lives(hello.identity):
            return self._session.close(
                TRY_AGAIN, "expected the spool of a trainer that has ended, got one's that is here"
            )
        try:
            return await self._parts.write(partial(intake.enter, hello=hello))
        except StoreBusyError as error:
            return self._session.close(TRY_AGAIN, str(error))
        except ValueError as error:
            return self._session.close(POLICY, str(error))

    def _lives(self, who: wire.Identity) -> bool:
        """Whether a trainer is connected itself: then a copy of its spool tells of an end that has not come."""
        own = self._parts.connections.of(who.run, who.producer)
        return own is not None and not own.ended

    async def _receive(self) -> wire.ToServer | Close:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        data = message.get("bytes")
        if data is None:
            return self._session.close(NOT_DECODABLE, "expected a binary message, got text")
        return self._session.receive(data)

    async def _serve(self, producer: runs.Producer) -> Close:
        """Stream, with this connection known to the others."""
        connection = Connection(
            producer.id, producer.run, producer.producer, ended=producer.ended, silence=self._silence
        )
        older = self._parts.connections.admit(connection)
        try:
            if older is not None:
                older.displace(Close(POLICY, "displaced by a newer connection of the same producer"))
            moment = self._parts.clock.monotonic()
            self._parts.pulse.connect(connection.run, connection.producer, moment, ended=producer.ended)
            self._tell(connection)
            connection.send(self._session.welcome(producer.committed))
            waiting = await asyncio.to_thread(self._waiting, producer)
            hand_over(connection, waiting, self._parts.clock.now())
            return await self._until_first(connection, producer)
        finally:
            if self._parts.connections.dismiss(connection):
                self._parts.writer.submit(lambda tx: self._parts.books.close(producer))  # behind what it sent
                self._note_end(connection)

    async def _until_first(self, connection: Connection, producer: runs.Producer) -> Close:
        """Read and write until one of them ends, or a newer connection comes."""
        tasks = [
            asyncio.create_task(self._read(connection, producer)),
            asyncio.create_task(self._send(connection)),
        ]
        try:
            done, _ = await asyncio.wait([*tasks, connection.displaced], return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, connection: Connection, producer: runs.Producer) -> Close:
        inbox = Inbox(self._parts.books, producer)
        while True:
            message = await self._receive()
            if isinstance(message, Close):
                return message
            if isinstance(message, wire.Layouts):
                try:
                    books = self._parts.books
                    await self._parts.write(partial(intake.describe, books=books, who=producer, layouts=message))
                except StoreBusyError as error:
                    return self._session.close(TRY_AGAIN, str(error))
            if isinstance(message, wire.Batch):
                haul = inbox.put(message)
                if haul is not None:
                    self._parts.writer.submit(haul).add_done_callback(partial(self._answer, connection, haul))
                await connection.room()

    def _answer(self, connection: Connection, haul: Haul, done: "Future[list[Told]]") -> None:
        """Say what became of the batches of a haul. Called on the event loop, after the commit."""
        error = done.exception()
        if error is None:
            answers = [one for first, outcome in done.result() for one in self._session.answer(first, outcome)]
            connection.answer(answers, len(haul.batches))
        elif isinstance(error, StoreBusyError):
            haul.give_up()
            again = [self._session.retry(batch.first, str(error)) for batch in haul.batches[:1]]
            connection.answer(again, len(haul.batches))
        else:
            connection.fail(error)

    async def _send(self, connection: Connection) -> Close:
        while True:
            messages, batches = await connection.outgoing()
            for message in messages:
                await self._websocket.send_bytes(wire.encode(message))
            connection.make_room(batches)

    def _waiting(self, producer: runs.Producer) -> list[dict[str, object]]:
        with self._parts.database.reading() as reading:
            return commands.waiting(reading, producer.run, producer.producer, self._parts.clock.now())

    def _note_end(self, connection: Connection) -> None:
        """How it ended is kept: it is all that is known of a trainer that does not come back. One that answers no more
        fell silent when it was heard of last, and not when that was found out."""
        ask = self._websocket.scope.get("extensions", {}).get("trainvitals.parting")
        how: parting.Parting = (ask() if ask is not None else "") or "server"
        clock, since = self._parts.clock, self._silence() if how == "silent" else 0.0
        ended = parting.tell(how, clock.now() - since)
        self._parts.pulse.disconnect(connection.run, connection.producer, clock.monotonic() - since, ended)
        self._tell(connection)

    def _silence(self) -> float:
        """Seconds since anything came from the peer."""
        ask = self._websocket.scope.get("extensions", {}).get("trainvitals.silence")
        return ask() if ask is not None else 0.0

    def _tell(self, connection: Connection) -> None:
        self._parts.summaries.touch(connection.run)
        self._parts.hub.mark(connection.run)
