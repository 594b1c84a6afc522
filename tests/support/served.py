"""The real server in a thread of the test's own process, and trainers that speak the wire by hand."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from trainvitals import home, wire
from trainvitals_server.clock import Clock
from trainvitals_server.service import Service
from trainvitals_server.settings import Settings

M = TypeVar("M", bound=wire.Message)
SECONDS = 60.0


def until(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """What `condition` returns once it is true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"expected it within {seconds} s, got {found!r}")
        time.sleep(0.01)
    return found


class Served:
    """A server on a free port, everything it keeps in `directory`."""

    def __init__(self, directory: Path, *, clock: Clock | None = None, **settings: Any) -> None:
        self.directory = home.home(directory)
        self.url = self.link = ""
        self._ready = threading.Event()
        self.service = Service(Settings(port=0, directory=directory, **settings), self._announce, clock)
        self._thread = threading.Thread(target=self.service.run_forever)

    def __enter__(self) -> "Served":
        self._thread.start()
        if not self._ready.wait(SECONDS):
            raise TimeoutError("expected the server to start")
        return self

    def __exit__(self, *error: object) -> None:
        self.service.stop()
        self._thread.join(20)

    def tidy(self) -> None:
        """Have the upkeep look now."""
        self.service.parts.loop.call_soon_threadsafe(self.service.parts.upkeep.set)

    def headers(self, role: home.Role) -> dict[str, str]:
        """The header that proves a role."""
        return {"Authorization": f"Bearer {home.read_token(self.directory, role)}"}

    def ask(self, method: str, path: str, role: home.Role | None = "view", **rest: Any) -> httpx.Response:
        """One request."""
        headers = {**(self.headers(role) if role else {}), **rest.pop("headers", {})}
        return httpx.request(method, self.url + path, headers=headers, timeout=SECONDS, trust_env=False, **rest)

    def get(self, path: str, **query: Any) -> Any:
        """The JSON at a path. A read that took too long, as on a machine that has more to do, is asked for again."""
        answer = until(lambda: (one := self.ask("GET", path, params=query)).status_code != 503 and one)
        assert answer.is_success, answer.text
        return answer.json()

    @contextmanager
    def trainer(self, run: str = "run-1", producer: str = "p-1", **identity: Any) -> Iterator["Speaker"]:
        """A trainer that has connected and not yet said hello."""
        path = home.read_server_file(self.directory)
        assert path is not None
        options: Any = {"additional_headers": self.headers("ingest"), "compression": None}
        with unix_connect(path.socket, "ws://localhost/ws/trainer", **options) as socket:
            yield Speaker(socket, identify(run, producer, **identity))

    @contextmanager
    def live(self, run: str | None, role: home.Role = "view", **options: Any) -> Iterator[ClientConnection]:
        """A live socket that has subscribed."""
        address = self.url.replace("http", "ws", 1) + "/ws/live"
        options = {"additional_headers": self.headers(role), "compression": None, "proxy": None, **options}
        with connect(address, **options) as socket:
            socket.send(subscription(run))
            yield socket

    def _announce(self, url: str, link: str) -> None:
        self.url, self.link = f"http://127.0.0.1:{self.service.port}", link
        self._ready.set()


class Speaker:
    """One trainer's connection, word by word."""

    def __init__(self, socket: ClientConnection, identity: wire.Identity) -> None:
        self.socket = socket
        self.identity = identity
        self.next = 0

    def hello(self, first: int = 0, next: int = 0, protocol: int = wire.PROTOCOL) -> wire.Welcome:
        """Say hello; the records that follow are numbered from behind the watermark."""
        self.say(wire.Hello(protocol=protocol, identity=self.identity, first=first, next=next))
        welcome = self.hear(wire.Welcome)
        self.next = welcome.committed + 1
        return welcome

    def say(self, message: wire.Message) -> None:
        """Send a message."""
        self.socket.send(wire.encode(message))

    def hear(self, kind: type[M]) -> M:
        """The next message, which must be of this kind."""
        data = self.socket.recv(SECONDS)
        assert isinstance(data, bytes)
        message = wire.decode_to_trainer(data)
        assert isinstance(message, kind), message
        return message

    def send(self, *records: wire.Message | bytes, first: int | None = None) -> None:
        """Send records as one batch; they take the next numbers unless `first` is given."""
        encoded = [one if isinstance(one, bytes) else wire.encode(one) for one in records]
        start = self.next if first is None else first
        self.say(wire.Batch(first=start, records=encoded))
        self.next = start + len(encoded)

    def store(self, *records: wire.Message | bytes) -> wire.Ack:
        """Send records and wait until they are committed."""
        self.send(*records)
        return self.hear(wire.Ack)


def close_of(socket: ClientConnection) -> tuple[int, str]:
    """Read until the other side closes: its code and reason. Raises where it breaks off without a word."""
    try:
        while True:
            socket.recv(SECONDS)
    except ConnectionClosed as error:
        if error.rcvd is None:
            raise
        return error.rcvd.code, error.rcvd.reason


def subscription(run: str | None) -> str:
    """The first message of a live socket."""
    return '{"type":"subscribe","run":null}' if run is None else f'{{"type":"subscribe","run":"{run}"}}'


def identify(run: str = "run-1", producer: str = "p-1", **rest: Any) -> wire.Identity:
    """Who a trainer is."""
    options = {"name": run, "started": 1.0, "allow": ["sanitize", "undo"], **rest}
    return wire.Identity(run=run, producer=producer, **options)


def layout(*columns: tuple[str, str, str], number: int = 1) -> wire.Layout:
    """A layout of (layer, kind, statistic)."""
    series = [wire.Series(place, *column, place) for place, column in enumerate(columns)]
    return wire.Layout(id=number, offset=0, total=len(series), series=series)


def frame(step: int, values: Sequence[float | None], number: int = 1, time: float | None = None) -> wire.Frame:
    """A frame; None stands for a value that is absent."""
    there = [value is not None for value in values]
    return wire.Frame(
        layout=number,
        step=step,
        time=1_000_000.0 + step if time is None else time,
        values=np.array([0.0 if value is None else value for value in values], "<f4").tobytes(),
        present=None if all(there) else np.packbits(there, bitorder="little").tobytes(),
    )
