"""One connection at a time to the server, opened again with full-jitter back-off whenever it breaks."""

import asyncio
import contextlib
import logging
import os
import random
import re
import time
from collections.abc import Callable

import msgspec
from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from trainvitals import wire
from trainvitals.delivery.address import Address
from trainvitals.delivery.ledger import Ledger
from trainvitals.delivery.session import ProtocolError, Reaction, Session

log = logging.getLogger("trainvitals")

BACKOFF = 0.5, 30.0  # seconds, first and last upper bound
LOCAL_BACKOFF = 1.0  # the last bound where the server is on this machine
FOREIGN_BACKOFF = 300.0  # the last bound where the server speaks another protocol, which only an update changes
PING = 20.0  # seconds between pings
SILENCE = 1.9  # pings; a server of which nothing has come for so long is gone: found out, and left, within 40 s
GOODBYE = 0.5  # seconds for the server to answer our closing
FOREIGN = re.compile(r"expected protocol (\d{1,9}), got \d")  # how a server refuses a hello of another protocol
_jitter = random.Random()  # noqa: S311 - jitter is no secret; our own, since the global generator is the user's


class Link:
    """Streams what a ledger holds. `on_command` is called with each command that arrives."""

    def __init__(
        self, ledger: Ledger, find: Callable[[], Address | None], on_command: Callable[[wire.Command], None]
    ) -> None:
        self.connected = False
        self.alone = False  # the last attempt found no server
        self.fresh = asyncio.Event()  # there may be something to send
        self.trouble = ""  # why the last attempt ended
        self._ledger = ledger
        self._reader = ledger.reader()
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
        address, name, limit = None, "the server", BACKOFF[1]
        try:
            address = self._find()
            self.alone = address is None
            if address is not None:
                name, limit = address.url, LOCAL_BACKOFF if address.is_local else BACKOFF[1]
                async with _opening(address) as connection:
                    await self._converse(connection)
        except InvalidStatus as error:
            self._fail(f"{name} answered {error.response.status_code} to the trainer; is the token right?")
        except (ConnectionClosed, ForeignError) as error:
            if (text := _foreign(error)) is not None:
                self.alone, limit = True, BACKOFF[1] if address and address.is_local else FOREIGN_BACKOFF
                self._complain(f"{name} {text}; records are spooled", logging.WARNING)
            else:
                self._complain(f"{name} closed the connection: {error}")
        except Exception as error:  # whatever is wrong there must not end the link: the server may come back
            self._fail(f"{name} cannot be reached ({type(error).__name__}: {error}); records are spooled")
        finally:
            self.connected = False
        return LOCAL_BACKOFF if address is None else limit

    async def _converse(self, connection: ClientConnection) -> None:
        ledger = self._ledger
        session = Session(ledger.identity)
        heard = Heard()
        beside = [asyncio.create_task(_ping(connection, heard)), asyncio.create_task(_watch(connection, heard))]
        try:
            await connection.send(wire.encode(session.hello(ledger.first, ledger.next, ledger.ended)))
            self._begin(session.receive(_same_protocol(await _receive(connection, heard))))
            for layouts in self._ledger.missing_layouts(session.committed):
                await connection.send(wire.encode(layouts))
            beside.append(asyncio.create_task(self._send(connection, session)))
            while True:
                self._react(session.receive(await _receive(connection, heard)))
                self.fresh.set()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _send(self, connection: ClientConnection, session: Session) -> None:
        try:
            await self._stream(connection, session)
        except OSError as error:  # the spool cannot be read now: begin again, after a while
            self._complain(f"{self._ledger.path} cannot be read: {error}", logging.WARNING)
            connection.transport.abort()

    async def _stream(self, connection: ClientConnection, session: Session) -> None:
        while True:
            self.fresh.clear()
            if (wait := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            while session.may_send() and (batch := self._reader.batch()):
                session.sent(batch)
                await connection.send(wire.encode(batch))
            await self.fresh.wait()

    def _begin(self, reaction: Reaction) -> None:
        """The server's welcome: it says what it has, which may be less than it or another one had."""
        if reaction.committed is not None:
            self._ledger.welcome(reaction.committed)
        self.connected, self._complained, self.trouble, self._not_before = True, "", "", 0.0
        self._react(reaction)

    def _react(self, reaction: Reaction) -> None:
        if reaction.committed is not None:
            self._ledger.acknowledge(reaction.committed)
        if reaction.set_aside is not None:
            self._ledger.set_aside(reaction.set_aside, reaction.reason)
        if reaction.rewind is not None:
            self._reader.seek(reaction.rewind)
        if reaction.wait:
            self._not_before = time.monotonic() + reaction.wait * _jitter.uniform(1.0, 1.5)
        if reaction.command is not None:
            self._on_command(reaction.command)

    def _fail(self, text: str) -> None:
        self.alone = True
        self._complain(text)

    def _complain(self, text: str, level: int = logging.INFO) -> None:
        """Say it once, not at every attempt."""
        self.trouble = text
        if text != self._complained:
            self._complained = text
            log.log(level, "%s", text)


class ForeignError(ProtocolError):
    """The server speaks another protocol."""


def _opening(address: Address) -> connect:
    headers = {"Authorization": f"Bearer {address.token}"} if address.token else {}
    # the library's own pings take their payload from the global random generator, which is the user's
    options = {
        "additional_headers": headers,
        "compression": None,
        "max_size": wire.MAX_MESSAGE_BYTES,
        "ping_interval": None,
        "close_timeout": GOODBYE,
    }
    if address.socket:
        return unix_connect(address.socket, "ws://localhost/ws/trainer", **options)
    return connect(address.websocket, proxy=None, **options)  # type: ignore[arg-type]


class Heard:
    """When the server was heard of last (monotonic seconds). Whatever comes counts, the answer to a ping as any other
    message: on a slow line that answer waits until what was sent before has arrived."""

    def __init__(self) -> None:
        self.at = time.monotonic()

    def note(self) -> None:
        """Now."""
        self.at = time.monotonic()


async def _ping(connection: ClientConnection, heard: Heard) -> None:
    """So that a server which has nothing to say is heard of, `PING` seconds after its last answer."""
    while True:
        await asyncio.sleep(PING)
        await (await connection.ping(os.urandom(4)))  # also the sending waits where nobody reads
        heard.note()


async def _watch(connection: ClientConnection, heard: Heard) -> None:
    """A silent server is gone. Measured from what was heard last, so that however a connection dies, it takes less
    than two pings to find out: a ping is sent within one, and its answer has the rest of `SILENCE`."""
    while (left := heard.at + SILENCE * PING - time.monotonic()) > 0:
        await asyncio.sleep(left)
    with contextlib.suppress(Exception):
        connection.transport.abort()


def _same_protocol(message: wire.ToTrainer) -> wire.ToTrainer:
    if isinstance(message, wire.Welcome) and message.protocol != wire.PROTOCOL:
        raise ForeignError(f"expected protocol {message.protocol}, got {wire.PROTOCOL}")
    return message


def _foreign(error: ConnectionClosed | ForeignError) -> str | None:
    """What to do about a server of another protocol, as its refusal tells; None for any other end."""
    said = str(error) if isinstance(error, ForeignError) else error.rcvd.reason if error.rcvd is not None else ""
    found = FOREIGN.match(said)
    if found is None or found[1] == str(wire.PROTOCOL):
        return None
    older = "the server" if int(found[1]) < wire.PROTOCOL else "the trainer"
    return f"speaks protocol {found[1]}, this trainer {wire.PROTOCOL}: update trainvitals on {older}'s side"


async def _receive(connection: ClientConnection, heard: Heard) -> wire.ToTrainer:
    data = await connection.recv()
    heard.note()
    if isinstance(data, str):
        raise ProtocolError(f"expected a binary message, got text {data[:40]!r}")
    try:
        return wire.decode_to_trainer(data)
    except msgspec.DecodeError as error:
        raise ProtocolError(f"expected a message of the wire, got {data[:20]!r}: {error}") from error
