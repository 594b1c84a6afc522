"""Browsers: a one-time code, in a link, is exchanged for a cookie. Codes live in memory, sessions in the database."""

import secrets
from typing import Literal, NamedTuple

from trainvitals_server.auth.tokens import digest
from trainvitals_server.clock import Clock

CODE_SECONDS = 600.0
SESSION_SECONDS = 30 * 86400.0
MAX_CODES = 64

BrowserRole = Literal["view", "control"]


class Session(NamedTuple):
    """A signed-in browser: its secret cookie, whose hash is kept, what it may do, and until when (Unix seconds)."""

    cookie: str
    role: str
    expires: float


class Sessions:
    """Every session, by its cookie's hash. `known` is what the database holds; `fingerprint` names the cookie, so that
    two servers on one machine do not sign each other's browsers out."""

    def __init__(self, fingerprint: str, known: dict[str, tuple[str, float]], clock: Clock) -> None:
        self.cookie_name = f"trainvitals_{fingerprint[:8]}"
        self._known = known
        self._codes: dict[str, tuple[BrowserRole, float]] = {}
        self._clock = clock

    def mint(self, role: BrowserRole = "control") -> str:
        """A code that signs one browser in, once, within ten minutes."""
        now = self._clock.now()
        self._codes = {code: kept for code, kept in self._codes.items() if kept[1] > now}
        while len(self._codes) >= MAX_CODES:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(24)
        self._codes[digest(code)] = (role, now + CODE_SECONDS)
        return code

    def redeem(self, code: str) -> Session | None:
        """The session for a code, which is used up; None for a code that never was, was used, or is too old."""
        role, expires = self._codes.pop(digest(code), ("view", 0.0))
        now = self._clock.now()
        if expires <= now:
            return None
        session = Session(secrets.token_urlsafe(32), role, now + SESSION_SECONDS)
        self._known[digest(session.cookie)] = (session.role, session.expires)
        return session

    def role_of(self, cookie: str) -> str | None:
        """What the browser with this cookie may do."""
        role, expires = self._known.get(digest(cookie), ("", 0.0))
        return role if expires > self._clock.now() else None
