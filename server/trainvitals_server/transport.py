"""Three things uvicorn's websocket protocol leaves open: a peer that does not read can be expelled, it cannot hold up
the end of the server, and a refusal before the handshake is no error.

The protocol's own `close` waits until the peer has read what was sent before. An expelled peer finds the close frame
behind that if it ever reads again, and is cut off if it does not.
"""

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.http11 import Request

GRACE_SECONDS = 5.0  # for a peer to read what is left, and to answer the close frame


class Transport(WebSocketsSansIOProtocol):
    """The protocol, with an extension `trainvitals.expel` for its application."""

    def handle_connect(self, event: Request) -> None:
        """Offer the extension to the application, which runs only after this has returned."""
        super().handle_connect(event)
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"]["trainvitals.expel"] = self.expel

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
        super().shutdown()
        self.loop.call_later(GRACE_SECONDS, self.transport.abort)
