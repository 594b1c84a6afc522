"""One line of progress below the lines of a child: on a terminal only, and none in a pipe."""

import threading
from typing import TextIO

CLEAR = "\r\x1b[K"


class Progress:
    """Lines go to `out`; where that is a terminal, the newest status stays below them."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._status = ""
        self._reader_left = False
        self._is_terminal = out.isatty()
        self._lock = threading.Lock()  # lines come from a listening thread

    def line(self, text: str) -> None:
        """Print one line for good. That nobody reads it any more is told to the next `status`: a listening thread could
        do nothing about it."""
        clear = CLEAR if self._status else ""
        with self._lock:
            try:
                print(f"{clear}{text}\n{self._status}", end="", file=self._out, flush=True)
            except BrokenPipeError:
                self._reader_left = True

    def status(self, text: str) -> None:
        """Show `text` as the status; "" removes it. Raises BrokenPipeError where nobody reads it."""
        if text and self._reader_left:
            raise BrokenPipeError
        if self._is_terminal and text != self._status:
            with self._lock:
                print(f"{CLEAR}{text}", end="", file=self._out, flush=True)
                self._status = text
