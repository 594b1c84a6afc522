"""What every request passes before any route sees it: Host, Origin, and who it is.

A wrong Host gets 400, a token in the address 400, a wrong token 401 (429 after too many), a foreign Origin 403, and
whatever would change anything without credentials 401, on every path. The rest is left to the route's own role.
"""

from typing import Literal, NamedTuple

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from trainvitals_server.auth.origin import host_allowed, origin_matches
from trainvitals_server.errors import RefusedError
from trainvitals_server.jsontext import dumps
from trainvitals_server.parts import Parts, parts_of

SAFE = ("GET", "HEAD", "OPTIONS")
SECRET_PARAMETERS = ("token", "access_token", "api_key", "authorization")


class Principal(NamedTuple):
    """Who is asking: a role ("" for nobody), how that was shown, and from which address ("unix" for the socket)."""

    role: str
    shown_by: Literal["nothing", "token", "cookie"]
    address: str


class Guard:
    """ASGI middleware; leaves a `Principal` in the request's state."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        try:
            connection.state.principal = admit(connection, parts_of(connection))
        except RefusedError as error:
            await refusal(error)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def admit(connection: HTTPConnection, parts: Parts) -> Principal:
    """Who is asking. Raises `RefusedError` for what no route may see."""
    host = connection.headers.get("host", "")
    if not host_allowed(host, parts.settings):
        raise RefusedError(400, f"expected a Host this server is known by, got {host[:100]!r}")
    if any(name in connection.query_params for name in SECRET_PARAMETERS):
        raise RefusedError(400, "expected the token in the Authorization header, got it in the address")
    principal = identify(connection, parts)
    unsafe = connection.scope["type"] == "http" and connection.scope["method"] not in SAFE
    check_origin(connection, principal, parts, unsafe=unsafe)
    if unsafe and not principal.role:
        raise RefusedError(401, "expected a token or a signed-in browser, got neither")
    return principal


def identify(connection: HTTPConnection, parts: Parts) -> Principal:
    """Who is asking, by token or by cookie. Raises `RefusedError` for a wrong token."""
    address = connection.client.host if connection.client else "unix"
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme:
        role = parts.tokens.role_of(token.strip()) if scheme.lower() == "bearer" else None
        if role is None:
            raise failed_attempt(parts, address)
        return Principal(role, "token", address)
    cookie = connection.cookies.get(parts.sessions.cookie_name)
    role_of_browser = parts.sessions.role_of(cookie) if cookie else None
    return Principal(role_of_browser or "", "cookie" if role_of_browser else "nothing", address)


def failed_attempt(parts: Parts, address: str) -> RefusedError:
    """Count a wrong secret; the answer it gets."""
    if parts.attempts.fail(address):
        return RefusedError(429, "expected a valid token, got too many wrong ones; wait a minute")
    return RefusedError(401, "expected a valid token, got another one")


def check_origin(connection: HTTPConnection, principal: Principal, parts: Parts, *, unsafe: bool) -> None:
    """Raise `RefusedError` where another site's page may be behind a request that has effects or opens a socket."""
    websocket = connection.scope["type"] == "websocket"
    if not (websocket or unsafe):
        return
    origin = connection.headers.get("origin")
    if origin is None and principal.shown_by != "cookie":
        return  # no browser sends these without one
    host, scheme = connection.headers.get("host", ""), connection.scope["scheme"]
    if origin is None or not origin_matches(origin, host, scheme, behind_proxy=parts.settings.behind_proxy):
        raise RefusedError(403, f"expected the Origin of this server's own page, got {(origin or 'none')[:100]!r}")


def refusal(error: RefusedError) -> Response:
    """A refusal as an answer: one line of JSON."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {"Retry-After": "60"}
    headers = headers if error.status in (401, 429) else {}
    return Response(dumps({"detail": error.detail}), error.status, headers, media_type="application/json")
