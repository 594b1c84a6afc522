"""Guesses at tokens, counted by where they come from."""

from collections import OrderedDict, deque

from trainvitals_server.clock import Clock

ALLOWED = 10
WINDOW_SECONDS = 60.0
MAX_ADDRESSES = 4096


class Attempts:
    """Failed attempts of the last minute. Good tokens are not held up: a trainer with an old token on the same machine
    must not lock its owner out, and 256 bits are not found by trying."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def fail(self, address: str) -> bool:
        """Count one; whether there have been too many."""
        now = self._clock.monotonic()
        times = self._failed.setdefault(address, deque(maxlen=ALLOWED + 1))
        self._failed.move_to_end(address)
        if len(self._failed) > MAX_ADDRESSES:
            self._failed.popitem(last=False)
        times.append(now)
        return len(times) > ALLOWED and now - times[0] < WINDOW_SECONDS
