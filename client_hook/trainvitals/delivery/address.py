"""Where the server is, and the token that opens it.

In this order: the argument of `watch`, the environment, the per-user directory. What is found in the directory is
reached through its unix socket, which only this user can have made; a token is never sent to a stranger's port.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from trainvitals.errors import ConfigurationError
from trainvitals.home import read_server_file, read_token


@dataclass(frozen=True)
class Address:
    """`url` is the base for people (http or https), `socket` a unix socket that is used instead where it is given."""

    url: str
    token: str | None
    socket: str = ""

    @property
    def websocket(self) -> str:
        """The URL of the ingest socket."""
        return f"{self.url.replace('http', 'ws', 1)}/ws/trainer"

    @property
    def is_local(self) -> bool:
        """Whether retrying often is cheap."""
        return bool(self.socket) or urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")


def find_address(base: Path, server: str | None, token: str | None) -> Address | None:
    """The server to speak to now, or None while none is known. Asked again before every attempt."""
    token = token or os.environ.get("TRAINVITALS_TOKEN") or None
    server = server or os.environ.get("TRAINVITALS_SERVER") or None
    if server:
        return Address(check_url(server), token or read_token(base, "ingest"))
    announced = read_server_file(base)
    if announced is None:
        return None
    return Address(announced.url, token or read_token(base, "ingest"), announced.socket)


def check_url(server: str) -> str:
    """The server's base URL. Raises ConfigurationError where it is none."""
    parts = urlsplit(server)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ConfigurationError(f"server: expected an address such as http://host:8787, got {server!r}")
    return server.rstrip("/")
