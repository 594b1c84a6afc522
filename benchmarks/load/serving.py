"""The real server in a process of its own, and what it uses."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trainvitals import home

PATIENCE = 30  # seconds for the server to answer
TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A running one."""

    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """Its address."""
        found = home.read_server_file(self.directory)
        assert found is not None
        return found.url

    def token(self, role: home.Role) -> str:
        """The token of a role."""
        found = home.read_token(self.directory, role)
        assert found is not None
        return found

    def cpu(self) -> float:
        """Seconds of CPU, user and system, so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def memory(self, which: str = "VmHWM") -> int:
        """Bytes of the resident set: the most there were, or with `VmRSS` now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(which))

    def size(self) -> int:
        """Bytes on disk, log included."""
        return sum(file.stat().st_size for file in self.directory.glob("trainvitals.db*"))


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server on this machine."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        command = [sys.executable, "-m", "trainvitals_server.cli", "serve", "--port", "0"]
        environment = {**os.environ, "TRAINVITALS_DIR": name}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + PATIENCE
            while not (Path(name) / "server.json").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("expected the server to start, it did not")
                time.sleep(0.1)
            yield Server(Path(name), process)
        finally:
            process.terminate()
            process.wait()
