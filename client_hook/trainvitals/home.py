"""The per-user directory, mode 0700, through which programs on one machine find each other.

It holds `server.json` (who serves, and on which sockets), one token file per role, the database and the spools. Its
owner is the only one who can write there, which is what makes the local socket trustworthy.
"""

import os
from pathlib import Path
from typing import Literal

import msgspec
import platformdirs

Role = Literal["ingest", "view", "control"]


class ServerFile(msgspec.Struct, frozen=True):
    """What a running server says of itself: process id, base URL, path of its unix socket ("" where the platform has
    none), and of its database."""

    pid: int
    url: str
    socket: str = ""
    database: str = ""


def home(directory: str | os.PathLike[str] | None = None) -> Path:
    """The directory given, else `TRAINVITALS_DIR`, else the platform's; made with mode 0700 if it is missing."""
    path = Path(directory or os.environ.get("TRAINVITALS_DIR") or platformdirs.user_data_dir("trainvitals"))
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def read_server_file(base: Path) -> ServerFile | None:
    """The server announced in `base`, or None where there is none or the file is not whole."""
    try:
        return msgspec.json.decode((base / "server.json").read_bytes(), type=ServerFile)
    except (OSError, msgspec.DecodeError):
        return None


def write_server_file(base: Path, server: ServerFile) -> None:
    """Announce `server`, atomically and readable by the owner only."""
    write_private(base / "server.json", msgspec.json.encode(server))


def read_token(base: Path, role: Role) -> str | None:
    """The token of `role` kept in `base`, or None."""
    try:
        return (base / f"{role}.token").read_text().strip() or None
    except OSError:
        return None


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 in one step: readers see the old content or the new."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    temporary.replace(path)
