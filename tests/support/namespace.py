"""A network of its own for one training, where this machine permits making one (Linux, as root).

The loopback of the namespace is its whole network. A proxy stands with one foot in it: its listener is opened there,
and what it forwards goes out here.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEWNET = 0x40000000
FOLDER = Path("/run/netns")


class Namespace:
    """A namespace by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def prefix(self) -> list[str]:
        """What to put before a command that shall run in it."""
        return ["ip", "netns", "exec", self.name]

    def link(self, state: str) -> None:
        """Take the network `up` or `down`."""
        subprocess.run([*self.prefix, "ip", "link", "set", "lo", state], check=True)

    def degrade(self, *how: str) -> bool:
        """Delay and lose packets as `tc netem` is told; False where this kernel cannot."""
        command = [*self.prefix, "tc", "qdisc", "replace", "dev", "lo", "root", "netem", *how]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def listen(self) -> socket.socket:
        """A listening socket inside: a thread goes in, opens it, and ends there."""
        opened: list[socket.socket] = []

        def inside() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            with (FOLDER / self.name).open("rb") as file:
                if libc.setns(file.fileno(), NEWNET):
                    raise OSError(ctypes.get_errno(), f"expected to enter the namespace {self.name}")
            opened.append(socket.create_server(("127.0.0.1", 0)))

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        return opened[0]


@contextmanager
def namespace() -> Iterator[Namespace | None]:
    """A namespace with its loopback up, until the end of the block; None where none can be made."""
    made = Namespace(f"trainvitals-{os.getpid()}")
    if (
        shutil.which("ip") is None
        or subprocess.run(["ip", "netns", "add", made.name], capture_output=True, check=False).returncode
    ):
        yield None
        return
    try:
        made.link("up")
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", made.name], check=True)
