"""The real server program in a process of its own, for tests and screenshots: started, killed, started again."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from trainvitals import home

START_SECONDS = 60.0  # a busy machine takes half a minute


class Program:
    """`trainvitals serve` with everything it keeps under `directory`. The port is chosen once and kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = 0
        self.entry = ["-m", "trainvitals_server.cli"]  # what Python runs; tests plant faults by another one
        self.withheld: set[str] = set()  # environment variables that it does not get
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        (self.directory / "server.json").unlink(missing_ok=True)
        command = [sys.executable, *self.entry, "serve", "--port", str(self.port)]
        given = {name: value for name, value in os.environ.items() if name not in self.withheld}
        environment = {**given, "TRAINVITALS_DIR": str(self.directory)}
        with (self.directory / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            found = home.read_server_file(self.directory)
            if found is not None and found.pid == self._process.pid and self._answers(found.url):
                self.port = int(found.url.rstrip("/").rsplit(":", 1)[1])
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"the server did not start: {(self.directory / 'serve.log').read_text()[-2000:]}")

    @property
    def pid(self) -> int:
        """The process id, while it runs."""
        if self._process is None:
            raise RuntimeError("expected a running server, there is none")
        return self._process.pid

    def signal(self, number: int) -> None:
        """Send a signal, where it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """Wait until it has ended by itself; its exit code. Raises TimeoutError."""
        if self._process is None:
            raise RuntimeError("expected a running server, there is none")
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"expected the server to end within {seconds:g} s") from None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def token(self, role: home.Role) -> str:
        """The token of a role."""
        token = home.read_token(self.directory, role)
        if token is None:
            raise RuntimeError(f"expected a {role} token in {self.directory}, found none")
        return token

    def get(self, path: str) -> Any:
        """A REST answer, by the view token."""
        return self._request("GET", path, "view").json()

    def read(self, path: str) -> str:
        """The text at a path, by the view token."""
        return self._request("GET", path, "view").text

    def post(self, path: str, body: Any) -> Any:
        """The answer to something asked for, by the control token."""
        return self._request("POST", path, "control", body).json()

    def sign_in_link(self) -> str:
        """A one-time link that gives a browser the control role."""
        return str(self._request("POST", "/api/signin", "control").json()["url"])

    def _request(self, method: str, path: str, role: home.Role, body: Any = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token(role)}"}
        answer = httpx.request(method, self.url + path, headers=headers, json=body, timeout=10)
        return answer.raise_for_status()

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            return httpx.get(f"{url.rstrip('/')}/healthz", timeout=2).is_success
        except httpx.TransportError:
            return False


@contextmanager
def serving(directory: Path) -> Iterator[Program]:
    """A server that keeps everything in `directory`, until the end of the block."""
    directory.chmod(0o700)
    program = Program(directory)
    program.start()
    try:
        yield program
    finally:
        program.stop()
