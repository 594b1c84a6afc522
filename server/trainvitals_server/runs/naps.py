"""Whether this server itself was away: its machine suspended, its process stopped, its loop held up.

Monotonic time stands still while Linux is suspended, and goes on while the process alone is stopped; the clock that
counts both tells the first from the difference, a look that comes late tells the second.
"""

from trainvitals_server.clock import Clock

HELD_UP = 5.0  # seconds that a look may come late: the machine may be busy


class Naps:
    """Asked once a second or so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked = clock.monotonic()
        self._asleep = clock.awake_or_not() - self._looked

    def held_up(self) -> bool:
        """Whether nobody could listen for a while since the last look."""
        now = self._clock.monotonic()
        asleep = self._clock.awake_or_not() - now
        late, slept = now - self._looked, asleep - self._asleep
        self._looked, self._asleep = now, asleep
        return late > HELD_UP or slept > HELD_UP
