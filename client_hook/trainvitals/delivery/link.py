"""One connection at a time to the server, opened again with full-jitter back-off whenever it breaks."""

import asyncio
import contextlib
import logging
import os
import random
import time
from collections.abc import Callable

import msgspec
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from trainvitals import wire
from trainvitals.delivery.address import Address
from trainvitals.delivery.session import ProtocolError, Reaction, Session
from trainvitals.delivery.spool import Spool, SpoolReader

log = logging.getLogger("trainvitals")

BACKOFF = 0.5, 30.0  # seconds, first and last upper bound
LOCAL_BACKOFF = 1.0  # the last bound where the server is on this machine
PING = 20.0  # seconds between pings, and for their answer
_jitter = random.Random()  # noqa: S311 - jitter is no secret; our own, since the global generator is the user's


class Link:
    """Streams a spool. `on_command` is called with each command that arrives."""

    def __init__(
        self, spool: Spool, find: Callable[[], Address | None], on_command: Callable[[wire.Command], None]
    ) -> None:
        self.connected = False
        self.alone = False  # the last attempt found no server
        self.fresh = asyncio.Event()  # there may be something to send
        self._spool = spool
        self._reader = SpoolReader(spool.path)
        self._find = find
        self._on_command = on_command
        self._not_before = 0.0
        self._complained = ""

    async def run(self) -> None:
        """Connect, stream, connect again; until cancelled."""
        bound = BACKOFF[0]
        try:
            while True:
                started = time.monotonic()
                limit = await self._attempt()
                bound = BACKOFF[0] if time.monotonic() - started > BACKOFF[1] else min(bound, limit)
                await asyncio.sleep(_jitter.uniform(0, bound))
                bound = min(bound * 2, limit)
        finally:
            self._reader.close()

    async def _attempt(self) -> float:
        """One connection, from hello to its end; returns the longest time to wait before the next."""
        address, name = None, "the server"
        try:
            address = self._find()
            self.alone = address is None
            if address is not None:
                name = address.url
                async with _opening(address) as connection:
                    await self._converse(connection)
        except InvalidStatus as error:
            self._fail(f"{name} answered {error.response.status_code} to the trainer; is the token right?")
        except ConnectionClosed as error:
            self._complain(f"{name} closed the connection: {error}")
        except Exception as error:  # whatever is wrong there must not end the link: the server may come back
            self._fail(f"{name} cannot be reached ({type(error).__name__}: {error}); records are spooled")
        finally:
            self.connected = False
        return LOCAL_BACKOFF if address is None or address.is_local else BACKOFF[1]

    async def _converse(self, connection: ClientConnection) -> None:
        session = Session(self._spool.identity)
        await connection.send(wire.encode(session.hello(self._spool.first, self._spool.next)))
        self._react(session.receive(await _receive(connection)))
        self.connected, self._complained, self._not_before = True, "", 0.0
        beside = [asyncio.create_task(self._send(connection, session)), asyncio.create_task(_keep_alive(connection))]
        try:
            while True:
                self._react(session.receive(await _receive(connection)))
                self.fresh.set()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _send(self, connection: ClientConnection, session: Session) -> None:
        while True:
            self.fresh.clear()
            if (wait := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            while session.may_send() and (batch := self._reader.batch()):
                session.sent(batch)
                await connection.send(wire.encode(batch))
            await self.fresh.wait()

    def _react(self, reaction: Reaction) -> None:
        if reaction.committed is not None:
            self._spool.acknowledge(reaction.committed)
        if reaction.set_aside is not None:
            log.warning("the server refused record %d for good: %s", reaction.set_aside, reaction.reason)
        if reaction.rewind is not None:
            self._reader.seek(reaction.rewind)
        if reaction.wait:
            self._not_before = time.monotonic() + reaction.wait
        if reaction.command is not None:
            self._on_command(reaction.command)

    def _fail(self, text: str) -> None:
        self.alone = True
        self._complain(text)

    def _complain(self, text: str) -> None:
        """Say it once, not at every attempt."""
        if text != self._complained:
            self._complained = text
            log.info("%s", text)


def _opening(address: Address) -> connect:
    headers = {"Authorization": f"Bearer {address.token}"} if address.token else {}
    # the library's own pings take their payload from the global random generator, which is the user's
    options = {
        "additional_headers": headers,
        "compression": None,
        "max_size": wire.MAX_MESSAGE_BYTES,
        "ping_interval": None,
    }
    if address.socket:
        return unix_connect(address.socket, "ws://localhost/ws/trainer", **options)
    return connect(address.websocket, proxy=None, **options)  # type: ignore[arg-type]


async def _keep_alive(connection: ClientConnection) -> None:
    """Ping; a server that does not answer in time is gone."""
    while True:
        await asyncio.sleep(PING)
        try:
            await asyncio.wait_for(await connection.ping(os.urandom(4)), PING)
        except TimeoutError:
            with contextlib.suppress(Exception):
                connection.transport.abort()
            return


async def _receive(connection: ClientConnection) -> wire.ToTrainer:
    data = await connection.recv()
    if isinstance(data, str):
        raise ProtocolError(f"expected a binary message, got text {data[:40]!r}")
    try:
        return wire.decode_to_trainer(data)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"expected a message of the wire, got {data[:20]!r}: {error}") from error
