"""How a run's end is noticed: normal exit, an exception, `sys.exit`, a signal, a fork. Earlier handlers are kept and
called.

Handlers are installed with the first live watch and find the watches through a weak set, so a watch that is gone is
not kept alive by them. In an interpreter that asks for the next line (a notebook, a console) an exception ends a line
and not the run.

Python tells nobody at exit which code it exits with; `sys.exit` is therefore wrapped to remember its own. A bare
`raise SystemExit(3)` that nobody catches cannot be told from a normal end.
"""

import atexit
import builtins
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, NoReturn, Protocol
from weakref import WeakSet

from trainvitals import blame


class Endable(Protocol):
    """A watch, as seen from here."""

    @property
    def busy(self) -> bool:
        """Whether this thread is in the middle of queueing a record."""

    @property
    def steps_ended(self) -> int:
        """How many steps have ended."""

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
# What ends a process by default, of what batch systems and terminals send. SIGINT only where it is set to do so: else
# it is a KeyboardInterrupt. SIGUSR1 and SIGUSR2 are the user's own.
FATAL = ("SIGTERM", "SIGHUP", "SIGXCPU", "SIGINT")
THREAD_TEXT = 8000  # characters
_live: "WeakSet[Any]" = WeakSet()
_installed = _signals_installed = False
_asked: tuple[Any, int] | None = None  # the code of the last `sys.exit`, and how many steps had ended


def follow(watch: Endable) -> None:
    """Tell `watch` when the process ends."""
    _live.add(watch)
    _install()


def _install() -> None:
    global _installed, _signals_installed  # noqa: PLW0603 - process-wide handlers are installed once per process
    if not _signals_installed and threading.current_thread() is threading.main_thread():
        _signals_installed = True
        for name in FATAL:
            if hasattr(signal, name):
                _install_signal(getattr(signal, name))
    if _installed:
        return
    _installed = True
    atexit.register(_at_exit)
    os.register_at_fork(after_in_child=_in_child)
    _install_hooks()
    if not _interactive():
        _install_exit()


def _install_hooks() -> None:
    earlier, earlier_of_threads = sys.excepthook, threading.excepthook

    def on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            if not _interactive():
                _end_all(*describe(error))
        finally:  # Ctrl-C may end the delivery of what is left
            earlier(kind, error, trace)

    def on_thread_exception(args: threading.ExceptHookArgs) -> None:
        try:
            if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
                _tell_of_thread(args.thread, args.exc_value)
        finally:
            earlier_of_threads(args)

    sys.excepthook = on_exception
    threading.excepthook = on_thread_exception


def _tell_of_thread(thread: threading.Thread | None, error: BaseException) -> None:
    """A thread's exception ends the thread. Whether training goes on is not known."""
    name = thread.name if thread is not None else "without a name"
    text = f"thread {name} ended by {blame.name_and_message(error)}\n{blame.trace(error)}"
    for watch in list(_live):
        watch.notify("thread", text[:THREAD_TEXT])


def _interactive() -> bool:
    """Whether somebody types the lines: a notebook, a console, or one that opens after the script (`python -i`)."""
    return hasattr(sys, "ps1") or bool(sys.flags.interactive) or hasattr(builtins, "__IPYTHON__")


def describe(error: BaseException) -> tuple[str, str, str, str]:
    """State, reason, error and traceback of a run that this exception ends."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "finished", "exit", "", ""
    known = {KeyboardInterrupt: "interrupted", SystemExit: "exit"}
    return "failed", known.get(type(error), "exception"), blame.name_and_message(error), blame.trace(error)


def _install_exit() -> None:
    earlier: Callable[[Any], NoReturn] = sys.exit

    def exit(status: Any = None, /) -> NoReturn:
        global _asked  # noqa: PLW0603 - the process has one end
        if threading.current_thread() is threading.main_thread():
            _asked = status, _steps()
        earlier(status)

    sys.exit = exit


def _steps() -> int:
    return sum(watch.steps_ended for watch in list(_live))


def _install_signal(number: int) -> None:
    earlier: Any = signal.getsignal(number)
    name = signal.Signals(number).name
    if earlier is None or earlier == signal.SIG_IGN:
        return  # not ours to change
    if callable(earlier) and number != signal.SIGTERM:
        return  # whoever handles it says what it means

    def on_signal(number: int, frame: FrameType | None) -> None:
        if any(watch.busy for watch in list(_live)):  # we came in between; the lock is this thread's
            threading.Timer(AGAIN, os.kill, (os.getpid(), number)).start()
            return
        if not callable(earlier):
            _end_all("failed", name, "", "")  # at once where that is under way already: a second signal ends it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        for watch in list(_live):  # on disk now, since nobody knows whether that handler comes back
            watch.notify(name.lower(), f"{name} was received; the program's own handler decides what follows")
        try:
            earlier(number, frame)
        except BaseException:
            _end_all("failed", name, "", "")
            raise

    signal.signal(number, on_signal)


def _at_exit() -> None:
    code, steps = _asked or (None, 0)
    if code not in (None, 0) and steps == _steps():  # none has ended since: nobody caught it and went on
        _end_all("failed", "exit", blame.name_and_message(SystemExit(code)), "")
    else:
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
