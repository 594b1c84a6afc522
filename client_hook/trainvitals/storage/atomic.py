"""A file that is whole or not there.

What is written goes to a temporary file in the same folder, is synced, and takes the old one's place in one rename,
after which the folder is synced: a process killed at any byte leaves the previous file as it was. The temporary file
of a killed process is removed by the next write beside it. Who is alive is told by a lock that the kernel lets go of
with the process, not by a process id, which may be another's (containers, reuse).
"""

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows: what a killed process left stays there
    fcntl = None  # type: ignore[assignment]

NAME_BYTES = 200  # of the target's name in that of its temporary file; file systems allow 255 in all


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let `write` fill a file that then becomes `path`; folders are made. Raises what `write` raises, and OSError; the
    old content then stays, and no temporary file. Where `path` is a link, the file it leads to is replaced."""
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    file, temporary = _open_temporary(target)
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is not None:
                temporary.replace(target)  # under the lock
        if fcntl is None:
            temporary.replace(target)  # Windows cannot rename what is open
    except BaseException:
        with suppress(OSError):  # what is raised says more
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _open_temporary(target: Path) -> tuple[BinaryIO, Path]:
    """A new file of this process, locked. Between its making and its locking another writer may take it for
    abandoned; then the next one is taken."""
    while True:
        temporary = target.with_name(f"{_prefix(target)}{secrets.token_hex(4)}.tmp")
        file = temporary.open("xb")
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks: nothing is removed there either
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
        if temporary.exists():
            return file, temporary
        file.close()


def _prefix(target: Path) -> str:
    return f".{os.fsdecode(os.fsencode(target.name)[:NAME_BYTES])}."


def _remove_abandoned(target: Path) -> None:
    """Delete what killed processes left of earlier writes to `target`."""
    if fcntl is None:
        return
    for left in target.parent.iterdir():
        if left.name.startswith(_prefix(target)) and left.name.endswith(".tmp"):
            with suppress(OSError), left.open("rb") as file:  # locked by a live writer, another user's, or gone
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                left.unlink()


def _sync_folder(folder: Path) -> None:
    """The rename itself survives a power cut."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)
