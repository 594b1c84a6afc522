"""A server of one's own: started as a child, waited for, and spoken to over its HTTP interface."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from trainvitals.home import ServerFile, read_server_file, read_token
from trainvitals_server.cli.client import TIMEOUT, Client
from trainvitals_server.cli.failure import Failure
from trainvitals_server.demo.child import Child

START = 30.0  # seconds a server may take until it answers
POLL = 0.1  # seconds between two questions


@dataclass(frozen=True)
class Serving:
    """A server that answers: where it keeps things, its process, its address for people, and a client that may
    control it."""

    directory: Path
    child: Child
    url: str
    api: Client


@contextmanager
def serving(directory: Path, port: int) -> Iterator[Serving]:
    """A server on `port` (0: a free one) that keeps everything in `directory`; ended when the block ends.

    Raises `Failure` where it does not start.
    """
    arguments = ["-m", "trainvitals_server.cli", "serve", "--port", str(port)]
    child = Child(arguments, {"TRAINVITALS_DIR": str(directory)}, on_line=lambda line: None)
    try:
        announced = _wait_for(child, directory)
        with _connect(announced, directory) as http:
            _wait_until_ready(child, http)
            yield Serving(directory, child, announced.url, Client(http, f"the server at {announced.url}"))
    finally:
        child.stop()


def _wait_for(child: Child, directory: Path) -> ServerFile:
    """What the child announced of itself. An older server's announcement does not count."""
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        announced = read_server_file(directory)
        if announced is not None and announced.pid == child.pid:
            return announced
        _check_alive(child)
        time.sleep(POLL)
    raise Failure(f"expected the server to announce itself within {START:.0f} s, it did not")


def _wait_until_ready(child: Child, http: httpx.Client) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        try:
            if http.get("/readyz").is_success:
                return
        except httpx.TransportError:
            _check_alive(child)
        time.sleep(POLL)
    raise Failure(f"expected the server to be ready within {START:.0f} s, it was not")


def _check_alive(child: Child) -> None:
    if child.code is not None:
        child.wait()
        raise Failure(f"the server ended with exit code {child.code}: {child.last_words}")


def _connect(announced: ServerFile, directory: Path) -> httpx.Client:
    """Over the unix socket where there is one: only this user can have made it, so the token goes to no stranger.
    Whatever the environment says of other servers does not matter here."""
    transport = httpx.HTTPTransport(uds=announced.socket) if announced.socket else None
    headers = {"Authorization": f"Bearer {read_token(directory, 'control')}"}
    return httpx.Client(base_url=announced.url, transport=transport, headers=headers, timeout=TIMEOUT, trust_env=False)
