"""Progress of long work: one line on a terminal, nothing in a pipe."""

import sys
import time

SHOW_AFTER = 0.5  # seconds of work before anything is shown
EVERY = 0.1  # seconds between two pictures
WIDTH = 30  # characters


class Bar:
    """Use it as a context manager, which leaves no trace of it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._due = time.monotonic() + SHOW_AFTER
        self._shown = False

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *error: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def show(self, done: int, total: int) -> None:
        """`done` of `total` have been seen to; 0 where it is not known."""
        now = time.monotonic()
        if now < self._due or not sys.stderr.isatty():
            return
        self._due, self._shown = now + EVERY, True
        share = min(done / total, 1.0) if total else 0.0
        said = f"{share:4.0%}" if total else f"{done:,}"
        print(f"\r\x1b[K{self._what} [{'#' * int(share * WIDTH):{WIDTH}}] {said}", end="", file=sys.stderr, flush=True)
