"""A running server: its two sockets, its announcement, and its end.

It listens on TCP, for browsers and for trainers elsewhere, and on a unix socket in the per-user directory, for programs
of the same user, which never need to send a token to a port that a stranger may have bound. TLS is for TCP only.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, cast

import uvicorn

from trainvitals import home, wire
from trainvitals_server.api.signin import link
from trainvitals_server.app import create_app
from trainvitals_server.clock import Clock
from trainvitals_server.errors import SettingsError, StoreBusyError
from trainvitals_server.parts import Parts
from trainvitals_server.settings import Settings
from trainvitals_server.store.database import Database
from trainvitals_server.transport import Transport

GRACEFUL_SECONDS = 10
MAX_SOCKET_PATH = 100  # bytes; the platforms' own limits begin at 104
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Ready = Callable[[str, str], None]


def run(settings: Settings, ready: Ready | None = None) -> None:
    """Serve until SIGTERM, SIGINT or `Service.stop`. `ready` is called once, with the address and a one-time sign-in
    link. Raises `SettingsError` where another server uses the directory, OSError where the port is taken."""
    Service(settings, ready).run_forever()


class Service(uvicorn.Server):
    """One server; `run_forever` blocks, `stop` ends it from any thread."""

    def __init__(self, settings: Settings, ready: Ready | None = None, clock: Clock | None = None) -> None:
        self.settings = settings
        self.when_ready = ready
        super().__init__(configure(settings, clock))

    @property
    def parts(self) -> Parts:
        """What the server is made of, once it has started."""
        return cast(Parts, self.config.app.state.parts)  # type: ignore[union-attr]

    @property
    def port(self) -> int:
        """The TCP port, while the server runs."""
        return int(self._tcp.getsockname()[1])

    def run_forever(self) -> None:
        """Serve until told to stop, then leave nothing behind but the database and the tokens."""
        with contextlib.ExitStack() as stack:
            directory = home.home(self.settings.directory)
            stack.enter_context(locked(directory))
            check_database(self.settings.database)
            self._tcp = stack.enter_context(listen(self.settings))
            self._unix = stack.enter_context(listen_locally(directory))
            stack.callback(withdraw, directory)
            super().run(sockets=[self._tcp])

    def stop(self) -> None:
        """End soon; returns at once."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open both sockets, then announce the server."""
        await super().startup(sockets=sockets)
        self.parts.url = address(self.settings, self._tcp)
        if self._unix is not None:
            await self._serve_locally(self._unix)
        path = "" if self._unix is None else self._unix.getsockname()
        announced = home.ServerFile(os.getpid(), self.parts.url, path, str(self.settings.database.absolute()))
        home.write_server_file(self.settings.directory, announced)
        if self.when_ready is not None:
            self.when_ready(self.parts.url, link(self.parts, "control"))

    async def _serve_locally(self, unix: socket.socket) -> None:
        """The same application on the unix socket, where TLS would only be in the way."""

        def protocol() -> asyncio.Protocol:
            kind = self.config.http_protocol_class
            return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)  # type: ignore[call-arg]

        server = await asyncio.get_running_loop().create_server(protocol, sock=unix, backlog=self.config.backlog)
        self.servers.append(server)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at a signal, and return as from any other end: whoever called decides about the exit code."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self._heed) for one in SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _heed(self, number: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit and number == signal.SIGINT
        self.should_exit = True


def configure(settings: Settings, clock: Clock | None = None) -> uvicorn.Config:
    """uvicorn's side: bounded messages, no compression, no log of addresses, which may hold a sign-in code."""
    return uvicorn.Config(
        create_app(settings, clock),
        ws=Transport,
        ws_max_size=wire.MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=settings.behind_proxy,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


def check_database(path: Path) -> None:
    """Open the database once, before anything listens. Raises `SettingsError` where it cannot be used."""
    try:
        Database(path).close()
    except StoreBusyError as error:
        raise SettingsError(str(error)) from error


def listen(settings: Settings) -> socket.socket:
    """The TCP socket. Raises OSError with one line where the address cannot be used."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((settings.host.strip("[]"), settings.port))
    except OSError as error:
        opened.close()
        raise OSError(error.errno, f"{settings.host}:{settings.port} cannot be listened on: {error.strerror}") from None
    return opened


@contextlib.contextmanager
def listen_locally(directory: Path) -> Iterator[socket.socket | None]:
    """The unix socket, in the directory or, where its path would be too long, in a fresh private one. None where the
    platform has none."""
    if not hasattr(socket, "AF_UNIX"):
        yield None
        return
    with contextlib.ExitStack() as stack:
        path = directory / "server.sock"
        if len(os.fsencode(path)) > MAX_SOCKET_PATH:
            path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="trainvitals-"))) / "server.sock"
        path.unlink(missing_ok=True)  # of a server that was killed: the directory is locked, so it is not in use
        opened = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        before = os.umask(0o177)
        try:
            opened.bind(os.fspath(path))
        finally:
            os.umask(before)
        stack.callback(path.unlink, missing_ok=True)
        yield opened


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[IO[str]]:
    """One server per directory. The lock ends with the process, however it ends. Raises `SettingsError`."""
    with (directory / "server.lock").open("a") as file:
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415  # not there on Windows

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                other = home.read_server_file(directory)
                where = f" at {other.url} (pid {other.pid})" if other else ""
                raise SettingsError(f"expected no other server for {directory}, but one runs{where}") from None
        yield file


def withdraw(directory: Path) -> None:
    """Take back this process's announcement."""
    announced = home.read_server_file(directory)
    if announced is not None and announced.pid == os.getpid():
        (directory / "server.json").unlink(missing_ok=True)


def address(settings: Settings, opened: socket.socket) -> str:
    """The base URL for people on this machine, or the public name where there is one."""
    if settings.behind_proxy and settings.public_hosts:
        return f"https://{settings.public_hosts[0]}"
    scheme = "https" if settings.tls else "http"
    name = (*settings.public_hosts, settings.host)[0]
    if name in ("0.0.0.0", "::", ""):  # noqa: S104  # what was bound, not what to bind
        name = "127.0.0.1"
    return f"{scheme}://{f'[{name}]' if ':' in name else name}:{opened.getsockname()[1]}"
