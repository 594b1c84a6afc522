"""Five things uvicorn's websocket protocol leaves open: a peer that does not read can be expelled, it cannot hold up
the end of the server, a refusal before the handshake is no error, how a connection ended is told, and a peer of which
anything comes is no silent one: on a slow line the answer to a ping waits until what was sent before has arrived.

The protocol's own `close` waits until the peer has read what was sent before. An expelled peer finds the close frame
behind that if it ever reads again, and is cut off if it does not.
"""

from typing import Literal

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame
from websockets.http11 import Request

GRACE_SECONDS = 5.0  # for a peer to read what is left, and to answer the close frame


class Transport(WebSocketsSansIOProtocol):
    """The protocol, with three extensions for its application: `trainvitals.expel`; `trainvitals.parting`, which
    returns how the connection ended, "" while the peer has not ended it; and `trainvitals.silence`."""

    _parting: Literal["", "closed", "broken", "silent", "server"] = ""
    _heard = 0.0  # when anything came last, by the loop's clock

    def parting(self) -> Literal["", "closed", "broken", "silent", "server"]:
        """How the connection ended: by a close frame, broken off, no answer to pings, this server's end."""
        return self._parting

    def silence(self) -> float:
        """Seconds since anything came from the peer."""
        return self.loop.time() - self._heard

    def data_received(self, data: bytes) -> None:
        """Something comes."""
        self._heard = self.loop.time()
        super().data_received(data)

    def handle_close(self, event: Frame) -> None:
        """The peer says goodbye."""
        self._parting = self._parting or "closed"
        super().handle_close(event)

    def keepalive_timeout(self) -> None:
        """The peer has not answered a ping. It lives where something else of it has come since."""
        left = (self.ping_timeout or 0.0) - self.silence()
        if left > 0:
            self.pong_timer = self.loop.call_later(left, self.keepalive_timeout)
            return
        self._parting = self._parting or "silent"
        super().keepalive_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever began it."""
        self._parting = self._parting or "broken"
        super().connection_lost(exc)

    def handle_connect(self, event: Request) -> None:
        """Offer the extensions to the application, which runs only after this has returned."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"] |= {
                "trainvitals.expel": self.expel,
                "trainvitals.parting": self.parting,
                "trainvitals.silence": self.silence,
            }

    async def send(self, message: ASGISendEvent) -> None:
        """Count a whole refusal as the end of the handshake; the protocol would log it as a fault of ours."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True

    def expel(self, code: int, reason: str) -> None:
        """Close without waiting for the peer."""
        if self.close_sent or self.transport.is_closing():
            return
        try:
            self.conn.send_close(code, reason)
        except InvalidState:  # the peer has closed meanwhile
            return
        self.close_sent = True
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.stop_keepalive()
        self.transport.close()
        self.loop.call_later(GRACE_SECONDS, self.transport.abort)

    def shutdown(self) -> None:
        """The server ends: 1012, and no more patience than with an expelled peer."""
        self._parting = self._parting or "server"
        super().shutdown()
        self.loop.call_later(GRACE_SECONDS, self.transport.abort)
