"""How a run's end is noticed: normal exit, an exception, SIGTERM, a fork. Earlier handlers are kept and called.

Handlers are installed with the first live watch and find the watches through a weak set, so a watch that is gone is
not kept alive by them.
"""

import atexit
import os
import signal
import sys
import threading
import time
import traceback
from types import FrameType, TracebackType
from typing import Any, Protocol
from weakref import WeakSet


class Endable(Protocol):
    """A watch, as seen from here."""

    @property
    def busy(self) -> bool:
        """Whether this thread is in the middle of queueing a record."""

    def conclude(self, state: str, reason: str, error: str, trace: str) -> bool:
        """The process ends in this way; whether there is something to deliver."""

    def deliver(self, timeout: float) -> None:
        """Wait at most `timeout` seconds for the delivery."""

    def notify(self, code: str, text: str) -> None:
        """Something happened to the process that is not its end."""

    def abandon(self) -> None:
        """This is a forked child: do nothing ever again."""


DRAIN = 5.0  # seconds for the delivery of all watches together
AGAIN = 0.05  # seconds after which a signal that came at a bad moment is sent again
_live: "WeakSet[Any]" = WeakSet()
_installed = _sigterm_installed = False


def follow(watch: Endable) -> None:
    """Tell `watch` when the process ends."""
    _live.add(watch)
    _install()


def _install() -> None:
    global _installed, _sigterm_installed  # noqa: PLW0603 - process-wide handlers are installed once per process
    if not _sigterm_installed and threading.current_thread() is threading.main_thread():
        _sigterm_installed = True
        _install_sigterm()
    if _installed:
        return
    _installed = True
    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_in_child)
    earlier = sys.excepthook

    def on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _end_all(*describe(error))
        earlier(kind, error, trace)

    sys.excepthook = on_exception


def describe(error: BaseException) -> tuple[str, str, str, str]:
    """State, reason, error and traceback of a run that this exception ends."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "finished", "exit", "", ""
    known = {KeyboardInterrupt: "interrupted", SystemExit: "exit"}
    text = "".join(traceback.format_exception(error))
    return "failed", known.get(type(error), "exception"), f"{type(error).__name__}: {error}", text


def _install_sigterm() -> None:
    earlier: Any = signal.getsignal(signal.SIGTERM)
    if earlier is None or earlier == signal.SIG_IGN:
        return  # not ours to change

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        if any(watch.busy for watch in list(_live)):  # we came in between; the lock is this thread's
            threading.Timer(AGAIN, os.kill, (os.getpid(), signal.SIGTERM)).start()
            return
        if not callable(earlier):
            _end_all("failed", "SIGTERM", "", "")
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
            return
        for watch in list(_live):  # on disk now, since nobody knows whether that handler comes back
            watch.notify("sigterm", "SIGTERM was received; the program's own handler decides what follows")
        try:
            earlier(number, frame)
        except BaseException:
            _end_all("failed", "SIGTERM", "", "")
            raise

    signal.signal(signal.SIGTERM, on_sigterm)


def _at_exit() -> None:
    _end_all("finished", "exit", "", "")


def _in_child() -> None:
    for watch in list(_live):
        watch.abandon()
    _live.clear()


def _end_all(state: str, reason: str, error: str, trace: str) -> None:
    """All at once, so that it takes no longer with many watches than with one."""
    waiting = [watch for watch in list(_live) if watch.conclude(state, reason, error, trace)]
    deadline = time.monotonic() + DRAIN
    for watch in waiting:
        watch.deliver(max(deadline - time.monotonic(), 0.0))
