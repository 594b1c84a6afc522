"""The command line's way to a server: over its own HTTP interface, with the token of the role that is needed.

The address is looked for in the arguments, the environment, and the per-user directory, in this order. From the
directory only the unix socket is used: its owner is known, while anybody could have bound a dead server's port, and
would be handed the token.
"""

import argparse
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from trainvitals import home
from trainvitals_server.cli.failure import Failure

TIMEOUT = 15.0  # seconds for one answer
PATIENCE = httpx.Timeout(TIMEOUT, read=3600.0, write=600.0)  # for a file that has to be made or taken in first
CHUNK = 1 << 20

Object = dict[str, Any]
Progress = Callable[[int, int], None]  # bytes done, of how many


class Unreachable(Failure):
    """No answer came: the server is away, which may pass."""


def arguments(parser: argparse.ArgumentParser, role: str = "view or control") -> None:
    """The options of every verb that talks to a server; `role` is what its token has to be good for."""
    where = parser.add_argument_group("which server")
    where.add_argument("--server", metavar="URL", help="its address (default: TRAINVITALS_SERVER, else the local one)")
    where.add_argument("--token", help=f"a token for --server ({role}; default: TRAINVITALS_TOKEN)")
    where.add_argument("--directory", type=Path, help="the per-user directory (default: TRAINVITALS_DIR)")


class Client:
    """Requests to one server. Every failure is a `Failure` of one line."""

    def __init__(self, http: httpx.Client, where: str) -> None:
        self._http = http
        self.where = where

    def get(self, path: str, **query: Any) -> Object:
        """The JSON object at a path."""
        return self._ask("GET", path, params={key: value for key, value in query.items() if value is not None})

    def post(self, path: str, body: Object | None = None) -> Object:
        """Send a JSON object; the JSON object that comes back."""
        return self._ask("POST", path, json=body or {})

    def put(self, path: str) -> Object:
        """Put nothing but the path; the JSON object that comes back."""
        return self._ask("PUT", path)

    def delete(self, path: str, **query: Any) -> Object:
        """Delete what a path names; the JSON object that comes back."""
        return self._ask("DELETE", path, params=query)

    def trouble(self) -> str:
        """What is wrong with the server's database, in one line; "" where nothing is known to be."""
        try:
            answer = _object(self._http.get("/readyz"))
        except (httpx.HTTPError, Failure):
            return ""
        if "detail" in answer:
            return f"what is shown may be old, since nothing new can be stored: {answer['detail']}"
        return str(answer.get("warning", ""))

    def _ask(self, method: str, path: str, **rest: Any) -> Object:
        try:
            answer = self._http.request(method, path, **rest)
        except httpx.HTTPError as error:
            raise Unreachable(f"no answer from {self.where}: {error or type(error).__name__}") from error
        if answer.is_success:
            return _object(answer)
        raise Failure(f"{method} {path}: {answer.status_code} {_detail(answer)}")

    def download(self, path: str, file: BinaryIO, progress: Progress) -> None:
        """Write what is at a path into a file. Making it may take long, so the first byte is waited for."""
        try:
            with self._http.stream("GET", path, timeout=PATIENCE) as answer:
                if not answer.is_success:
                    answer.read()
                    raise Failure(f"GET {path}: {answer.status_code} {_detail(answer)}")
                total, done = int(answer.headers.get("Content-Length", 0)), 0
                for chunk in answer.iter_raw():
                    done += file.write(chunk)
                    progress(done, total)
        except httpx.HTTPError as error:
            raise Unreachable(f"the answer of {self.where} broke off: {error or type(error).__name__}") from error

    def upload(self, path: str, file: Path, progress: Progress) -> Object:
        """Send a file; the JSON object that comes back once it has been seen to."""
        total = file.stat().st_size
        headers = {"Content-Length": str(total), "Content-Type": "application/octet-stream"}
        return self._ask("POST", path, content=_chunks(file, total, progress), headers=headers, timeout=PATIENCE)

    def close(self) -> None:
        """Let the connection go."""
        self._http.close()


@contextmanager
def connect(options: argparse.Namespace, role: home.Role = "view") -> Iterator[Client]:
    """A client for the server the options name. Raises `Failure` where none is known."""
    client = remote(options) or _local(options.directory, role)
    try:
        yield client
    finally:
        client.close()


def resolve(client: Client, wanted: str) -> str:
    """The id of the run with this id, name, or unambiguous beginning of either. Raises `Failure`."""
    return choose(client.get("/api/runs")["runs"], wanted)


def choose(runs: Sequence[Mapping[str, Any]], wanted: str) -> str:
    """The same among these runs, of each of which `id` and `name` are known."""
    exact = [run["id"] for run in runs if run["id"] == wanted] or [run["id"] for run in runs if run["name"] == wanted]
    found = exact or [run["id"] for run in runs if run["id"].startswith(wanted) or run["name"].startswith(wanted)]
    if len(found) == 1:
        return str(found[0])
    known = ", ".join(str(run["id"]) for run in runs[:5]) or "no runs at all"
    came = f"{wanted!r}, which is " + ("none of them" if not found else f"{len(found)} of them: {', '.join(found[:5])}")
    raise Failure(f"expected the id or name of one run ({known}{', ...' if len(runs) > 5 else ''}); got {came}")


def _chunks(path: Path, total: int, progress: Progress) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
            done += len(chunk)
            progress(done, total)


def running(options: argparse.Namespace, role: home.Role) -> Client | None:
    """A client for the server the options name; None where they name none and none runs on this machine."""
    client = remote(options)
    if client is not None:
        return client
    try:
        return _local(options.directory, role)
    except Failure:
        return None


def remote(options: argparse.Namespace) -> Client | None:
    """A client for a server that was named and is not the one of this user's directory."""
    url = options.server or os.environ.get("TRAINVITALS_SERVER")
    token = options.token or os.environ.get("TRAINVITALS_TOKEN")
    if not url:
        return None
    announced = home.read_server_file(home.home(options.directory))
    if not token and announced and announced.url.rstrip("/") == url.rstrip("/"):
        return None  # it is the local one: take the socket, no token needs to be typed
    if not token:
        raise Failure(f"expected --token or TRAINVITALS_TOKEN for {url}; got neither", code=2)
    if not url.startswith(("http://", "https://")):
        raise Failure(f"expected an address that begins with http:// or https://, got {url!r}", code=2)
    return Client(_http(httpx.HTTPTransport(), url, token), url)


def _local(directory: Path | None, role: home.Role) -> Client:
    base = home.home(directory)
    server, token = home.read_server_file(base), home.read_token(base, role)
    if server is None or not server.socket:
        raise Failure(f"no server is running (none announced in {base}); start one with `trainvitals serve`")
    if token is None:
        raise Failure(f"expected a {role} token in {base / (role + '.token')}; it is missing or empty")
    where = f"the server at {server.url} (socket {server.socket})"
    check_alive(server.socket, where)
    return Client(_http(httpx.HTTPTransport(uds=server.socket), "http://localhost", token), where)


def check_alive(path: str, where: str) -> None:
    """Raise `Unreachable` where nobody listens on a unix socket, which a server that was killed leaves behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError as error:
            reason = f"{error.strerror or error}; start one with `trainvitals serve`"
            raise Unreachable(f"no answer from {where}: {reason}") from error


def _http(transport: httpx.HTTPTransport, url: str, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
    return httpx.Client(transport=transport, base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False)


def _object(answer: httpx.Response) -> Object:
    try:
        value = answer.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Failure(f"expected a JSON object from {answer.url.path}, got {answer.text[:80]!r}")
    return value


def _detail(answer: httpx.Response) -> str:
    try:
        return str(_object(answer).get("detail", answer.reason_phrase))
    except Failure:
        return answer.reason_phrase
