"""Which steps are observed.

Every `every`-th. Where steps are so short that observing each would cost a noticeable share of them, fewer: those
`SHORTEST` seconds apart, decided from the median step of the last `WINDOW` steps, so that the first thousand are seen
whole and a short training all of it. Around a break every step counts: none is left out for `DENSE` steps after one.
"""

import statistics
from collections.abc import Callable

SHORTEST = 0.005  # seconds between observations: 200 a second are more than anybody looks at
WINDOW = 1000  # steps
DENSE = 200  # steps


class Sampling:
    """Counts steps and picks those that are observed. `announce` is told of each change, with a code and a text."""

    def __init__(self, every: int, announce: Callable[[str, str], None]) -> None:
        self._every = every
        self._announce = announce
        self._factor = 1
        self._seconds: list[float] = []
        self._dense_until = -1
        self.count = 0  # steps ended; the user's own numbers may have a stride

    @property
    def due(self) -> bool:
        """Whether the step under way is observed."""
        stride = self._every if self.count < self._dense_until else self._every * self._factor
        return self.count % stride == 0

    def note_break(self) -> None:
        """Something broke: look closely."""
        self._dense_until = self.count + DENSE

    def end(self, seconds: float | None) -> None:
        """A step has ended that took so long; None for the first."""
        self.count += 1
        if seconds is not None:
            self._seconds.append(seconds)
            if len(self._seconds) >= WINDOW:
                self._decide()

    def _decide(self) -> None:
        median = statistics.median(self._seconds) * self._every
        self._seconds = []
        wanted = 1
        while wanted * median < SHORTEST and wanted < WINDOW:
            wanted *= 2
        apart = self._factor * median > 3 * SHORTEST  # clearly further apart than need be: not to and fro at the bound
        if wanted > self._factor or (wanted < self._factor and apart):
            self._change(wanted, median / self._every)

    def _change(self, factor: int, seconds: float) -> None:
        self._factor = factor
        took = f"steps take {1e3 * seconds:.3g} ms"
        if factor > 1:
            text = f"{took}: one in {factor * self._every} is observed, to stay {1e3 * SHORTEST:g} ms apart"
            self._announce("thinned", text)
        else:
            self._announce("unthinned", f"{took}: {'every one' if self._every == 1 else f'one in {self._every}'} again")
