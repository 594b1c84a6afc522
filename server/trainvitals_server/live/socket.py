"""`/ws/live`: the thin shell between a browser and the hub."""

import asyncio
from typing import Any, Literal

import msgspec
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

import trainvitals_server
from trainvitals_server import panels
from trainvitals_server.auth.guard import Principal
from trainvitals_server.auth.roles import needs
from trainvitals_server.clock import iso
from trainvitals_server.errors import SlowReadError
from trainvitals_server.jsontext import dumps
from trainvitals_server.live.client import Client
from trainvitals_server.parts import Parts, parts_of
from trainvitals_server.records import alert_record, series_record
from trainvitals_server.store import alerts, series

FIRST_SECONDS = 5.0
STUCK_SECONDS = 10.0
MAX_CLIENTS = 256
MAX_REASON_BYTES = 123  # a close frame has room for no more
POLICY, TRY_AGAIN = 1008, 1013

router = APIRouter()


class Subscribe(msgspec.Struct, tag_field="type", tag="subscribe"):
    """Follow a run, or with None the list of runs; `rank` None means frames of every rank."""

    run: str | None
    rank: int | None = 0


class ClosedError(Exception):
    """This connection ends, with a websocket close code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore")


@router.websocket("/ws/live", dependencies=[needs("view")])
async def live(websocket: WebSocket) -> None:
    """One browser's connection."""
    await websocket.accept()
    parts, client = parts_of(websocket), Client()
    try:
        if len(parts.hub.clients) >= MAX_CLIENTS:
            raise ClosedError(TRY_AGAIN, f"expected at most {MAX_CLIENTS} live sockets, got another one")
        parts.hub.join(client)  # counted from here on, whether it ever subscribes or not
        await Link(websocket, parts, client).run()
    except WebSocketDisconnect:
        pass  # it went away
    except ClosedError as closed:
        await end(websocket, closed)
    except SlowReadError as error:
        await end(websocket, ClosedError(TRY_AGAIN, str(error)))
    finally:
        parts.hub.leave(client)


async def end(websocket: WebSocket, closed: ClosedError) -> None:
    """Close a connection; one that does not read is not waited for."""
    expel = websocket.scope.get("extensions", {}).get("trainvitals.expel")
    if closed.code == TRY_AGAIN and expel is not None:
        expel(closed.code, closed.reason)
    else:
        await websocket.close(closed.code, closed.reason)


class Link:
    """A websocket and its lanes."""

    def __init__(self, websocket: WebSocket, parts: Parts, client: Client) -> None:
        self._websocket = websocket
        self._parts = parts
        self._client = client

    async def run(self) -> None:
        """Serve until one side ends it. Raises `ClosedError` or `WebSocketDisconnect`."""
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                wish = await self._receive()
        except TimeoutError:
            raise ClosedError(POLICY, f"expected a first message within {FIRST_SECONDS:g} s, got none") from None
        await self._send(dumps(self._config()).decode())
        while wish is not None:
            wish = await self._follow(wish)

    async def _follow(self, wish: Subscribe) -> Subscribe:
        """Show what was asked for until something else is; returns that."""
        self._client.follow(wish.run, wish.rank)
        for message in await asyncio.to_thread(self._snapshot, wish.run):
            await self._send(dumps(message).decode())
        sending = asyncio.create_task(self._pump())
        receiving = asyncio.create_task(self._receive())
        try:
            await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            return await receiving
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)

    async def _receive(self) -> Subscribe:
        message = await self._websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        try:
            return msgspec.json.decode(message.get("text") or b"", type=Subscribe)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ClosedError(POLICY, f"expected a subscription, got {error}") from None
        except RecursionError:
            raise ClosedError(POLICY, "expected a subscription, got one of too many levels") from None

    async def _pump(self) -> None:
        """Send what the hub queues."""
        while True:
            await self._client.ready.wait()
            self._check()
            for message in self._client.take():
                await self._send(message)

    def _check(self) -> None:
        if self._client.overrun:
            raise ClosedError(TRY_AGAIN, "too many messages were left unread")

    async def _send(self, message: str | bytes) -> None:
        self._check()
        try:
            async with asyncio.timeout(STUCK_SECONDS):
                if isinstance(message, str):
                    await self._websocket.send_text(message)
                else:
                    await self._websocket.send_bytes(message)
        except TimeoutError:
            raise ClosedError(TRY_AGAIN, f"nothing was read for {STUCK_SECONDS:g} s") from None

    def _config(self) -> dict[str, Any]:
        principal: Principal = self._websocket.state.principal
        role: Literal["view", "control"] = "control" if principal.role == "control" else "view"
        return {
            "type": "config",
            "panels": panels.declare(),
            "version": trainvitals_server.__version__,
            "role": role,
            "time": iso(self._parts.clock.now()),
            "store": self._parts.writer.state(),
        }

    def _snapshot(self, run: str | None) -> list[dict[str, Any]]:
        """What a new follower is told at once. Raises `ClosedError` where there is no such run."""
        if run is None:
            return [{"type": "runs", "runs": self._parts.summaries.all()}]
        summary = self._parts.summaries.of(run)
        if summary is None:
            raise ClosedError(POLICY, f"expected the id of a run, got {run[:60]!r}")
        with self._parts.database.reading() as connection:
            rows, found = series.list_all(connection, run), alerts.find(connection, run)
        return [
            {"type": "run", "run": summary},
            {"type": "series", "series": [series_record(row) for row in rows]},
            {"type": "alerts", "alerts": [alert_record(alert) for alert in found]},
        ]
