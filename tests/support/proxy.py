"""A network that misbehaves: a TCP proxy on the loopback between a trainer and its server.

What passes can be swallowed (black hole), held back (latency, and the pauses in which TCP sends again what was lost),
squeezed to a rate, or cut after a number of bytes by a reset.
"""

import contextlib
import random
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

CHUNK = 4096
LOOK = 0.05  # seconds between two looks whether a black hole is over


@dataclass
class Weather:
    """How the network is now. `delay` seconds for each chunk, `rate` bytes a second, `loss` the share of chunks that
    come only when they are sent again, `cut` the bytes towards the server that pass before all is reset."""

    delay: float = 0.0
    rate: float = float("inf")
    loss: float = 0.0
    hole: bool = False
    cut: int | None = None


@dataclass
class Proxy:
    """Forwards to `port` of this machine. A `listener` may come from another network namespace."""

    port: int
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    weather: Weather = field(default_factory=Weather)
    passed: int = 0  # bytes, towards the server
    resets: int = 0
    accepted: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(0)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._swallowed: set[socket.socket] = set()
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where trainers find the server through it."""
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def close(self) -> None:
        """End every connection, and take no more."""
        self._closed = True
        self.listener.close()
        self.reset()

    def swallow(self) -> None:
        """The connections that are open now lead nowhere from now on, and nobody is told; new ones pass."""
        self._swallowed |= {one for pair in self._pairs for one in pair}

    def reset(self) -> None:
        """Reset every open connection, on both sides."""
        pairs, self._pairs = self._pairs, []
        for one in [one for pair in pairs for one in pair]:
            with contextlib.suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RD)  # wakes the thread that reads it
            one.close()
        self.resets += bool(pairs)

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.port), 5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self.accepted += 1
            self._pairs.append((near, far))
            for source, sink, up in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, sink, up), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(CHUNK):
                self._wait(source, len(data))
                if up and self._cut(sink, data):
                    return
                sink.sendall(data)
                self.passed += len(data) if up else 0
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _wait(self, source: socket.socket, size: int) -> None:
        while (self.weather.hole or source in self._swallowed) and not self._closed and source.fileno() >= 0:
            time.sleep(LOOK)
        again = self._random.uniform(0.2, 0.8) if self._random.random() < self.weather.loss else 0.0
        pause = self.weather.delay + again + size / self.weather.rate
        if pause:
            time.sleep(pause)

    def _cut(self, sink: socket.socket, data: bytes) -> bool:
        """Pass what may still pass, then reset; whether that was now."""
        if self.weather.cut is None:
            return False
        if len(data) < self.weather.cut:
            self.weather.cut -= len(data)
            return False
        sink.sendall(data[: self.weather.cut])
        self.weather.cut = None
        self.reset()
        return True
