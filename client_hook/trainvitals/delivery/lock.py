"""Who owns a spool: a lock that the kernel lets go of with the process, however it ends.

A forked child shares its parent's locks without meaning to, and would keep a killed parent's spool from being
recovered; so every child lets go of them. Where there are no such locks (Windows, some network file systems), a process
id on the same machine tells instead, and elsewhere silence.
"""

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from trainvitals import wire

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

SILENCE = 600.0  # seconds without a write after which another machine's spool counts as left, where no lock can tell
_held: set[int] = set()  # descriptors


class Lock:
    """A lock that is held. `close` lets go of it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        if descriptor >= 0:
            _held.add(descriptor)

    def close(self) -> None:
        """Let go; may be called again. In a forked child, which has let go already, it does nothing."""
        if self._descriptor in _held:
            _held.discard(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = -1


def own(path: Path) -> Lock:
    """Make the lock file of a new spool, and lock it where that is possible."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    _try(descriptor)
    return Lock(descriptor)


def claim(folder: Path, identity: wire.Identity) -> Lock | None:
    """Take over the spool of a process that has ended; None where it lives or another one has taken it over. What
    cannot be written can be claimed too."""
    path = folder / "lock"
    if not path.exists() and seems_alive(folder, identity):  # of a version that had no locks
        return None
    descriptor = _open(path)
    if descriptor is None:
        return None if seems_alive(folder, identity) else Lock(-1)
    lock, taken = Lock(descriptor), _try(descriptor)
    if taken and _is_there(path, descriptor):
        return lock
    if taken is None and not seems_alive(folder, identity):
        return lock
    lock.close()
    return None


def seems_alive(folder: Path, identity: wire.Identity) -> bool:
    """Whether the owner lives, as far as it can be told without locks."""
    if identity.host == socket.gethostname():
        return _runs(identity.pid)
    newest = max((path.stat().st_mtime for path in folder.glob("*.seg")), default=0.0)
    return time.time() - newest < SILENCE


def _open(path: Path) -> int | None:
    with suppress(OSError):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None


def _try(descriptor: int) -> bool | None:
    """Whether the lock was free and is ours now; None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_there(path: Path, descriptor: int) -> bool:
    """Whether the file that was locked is still the one at `path`: its owner may have removed it meanwhile."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _runs(pid: int) -> bool:
    if os.name != "posix":
        return pid == os.getpid()  # signal 0 would end it there; its files cannot be removed while it lives
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return pid > 0


def _let_go() -> None:
    """In a forked child."""
    for descriptor in tuple(_held):
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
