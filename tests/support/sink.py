"""A receiver of notifications: a real HTTP server that answers as it is told and remembers what it was sent."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Sink:
    """`answers` are the next status codes, the last of which stays; with "hang" nothing is said until `released`, with
    "drip" the head of an answer comes byte by byte and never ends."""

    answers: list[int | str] = field(default_factory=lambda: [200])
    location: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    port: int = 0
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def ids(self) -> list[str]:
        """The event ids, in the order they came."""
        return [body["event_id"] for body in self.received]

    def url(self, scheme: str = "json", path: str = "/in") -> str:
        """Its address."""
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def next(self) -> int | str:
        """The answer to give now."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def receiving(certificate: tuple[Path, Path] | None = None, **options: Any) -> Iterator[Sink]:
    """A sink on a free port of the loopback; behind TLS where a certificate and its key are given."""
    sink = Sink(**options)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            sink.paths.append(self.path)
            sink.headers.append({name.lower(): value for name, value in self.headers.items()})
            sink.received.append(json.loads(body))
            answer = sink.next()
            if answer == "hang":
                sink.released.wait(30)
                return
            if answer == "drip":
                self._drip()
                return
            self.send_response(int(answer))
            if sink.location:
                self.send_header("Location", sink.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            sink.paths.append("GET " + self.path)
            self.send_response(200)
            self.end_headers()

        def _drip(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(600):
                if sink.released.wait(0.05):
                    return
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sink.port = server.server_address[1]
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield sink
        finally:
            sink.released.set()
            server.shutdown()
            thread.join()
