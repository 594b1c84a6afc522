"""Signing a browser in: a one-time link, exchanged for a cookie."""

from functools import partial
from html import escape
from urllib.parse import urlencode

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from trainvitals_server.api.answers import Json, TheParts
from trainvitals_server.auth.guard import Principal, failed_attempt
from trainvitals_server.auth.roles import needs
from trainvitals_server.auth.sessions import SESSION_SECONDS, BrowserRole, Session
from trainvitals_server.auth.tokens import digest
from trainvitals_server.errors import RefusedError
from trainvitals_server.ingest.transaction import Transaction
from trainvitals_server.parts import Parts
from trainvitals_server.store import sessions

router = APIRouter()

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>trainvitals: sign in</title>
<style>:root {{ color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }}
main {{ max-width: 34rem; margin: 15vh auto; padding: 0 1rem }} code {{ font-size: 1.05em }}</style>
<main><h1>Sign in</h1><p>{reason}</p>
<p>On the machine that runs this server, type <code>trainvitals open</code>. It opens this page with a link that works
once, within ten minutes.</p></main></html>"""


class Wish(BaseModel):
    """What the browser that follows the link may do."""

    model_config = ConfigDict(extra="forbid")

    role: BrowserRole = "control"


@router.post("/api/signin", dependencies=[needs("control")])
async def mint(parts: TheParts, wish: Wish | None = None) -> Json:
    """A link that signs one browser in, once, within ten minutes."""
    return Json({"url": link(parts, wish.role if wish else "control")})


@router.get("/signin", dependencies=[needs("public")], include_in_schema=False)
async def redeem(request: Request, parts: TheParts, code: str = "") -> Response:
    """Exchange a code for a cookie; without one, say how to get it."""
    if not code:
        return page(401, "This page needs a signed-in browser.")
    session = parts.sessions.redeem(code)
    if session is None:
        principal: Principal = request.state.principal
        error: RefusedError = failed_attempt(parts, principal.address)
        return page(403 if error.status == 401 else error.status, "This link was used already, or is too old.")
    await parts.write(partial(_keep, session=session, token=parts.tokens.fingerprint))
    return _with_cookie(RedirectResponse("/", 303), parts, session)


def link(parts: Parts, role: BrowserRole) -> str:
    """A one-time link."""
    return f"{parts.url}/signin?{urlencode({'code': parts.sessions.mint(role)})}"


def page(status: int, reason: str) -> HTMLResponse:
    """The page for whoever is not signed in."""
    return HTMLResponse(PAGE.format(reason=escape(reason)), status)


def _with_cookie(response: Response, parts: Parts, session: Session) -> Response:
    response.set_cookie(
        parts.sessions.cookie_name,
        session.cookie,
        max_age=int(SESSION_SECONDS),
        path="/",
        secure=parts.settings.tls or parts.settings.behind_proxy,
        httponly=True,
        samesite="strict",
    )
    return response


def _keep(tx: Transaction, session: Session, token: str) -> None:
    sessions.prune(tx.connection, token, tx.now)
    sessions.add(tx.connection, digest(session.cookie), token, session.role, session.expires)
