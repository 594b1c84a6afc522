"""How much is said of a repair: all of it at first, and one line of one that has to be repeated at every step."""

from dataclasses import dataclass, field

FULL = 3  # passes over the same layers that are told in full
AGAIN = 100  # steps after which they are told in full once more


@dataclass
class Reports:
    """Follows the automatic passes."""

    _layers: set[str] = field(default_factory=set)
    _told: int = 0  # in full, since other layers were repaired
    _full: int = 0  # the step of the last full report
    _last: int = 0  # the step of the last pass
    repeats: int = 0  # passes since that report

    @property
    def since(self) -> int:
        """The step of the last full report."""
        return self._full

    def is_full(self, step: int, layers: set[str]) -> bool:
        """Whether the pass at `step` over `layers` is told in full. Otherwise it is one of the `repeats`."""
        if not layers <= self._layers or not 0 <= step - self._last < AGAIN:
            self._layers, self._told = layers, 0
        self._last = step
        if self._told >= FULL and step - self._full < AGAIN:
            self.repeats += 1
            return False
        self._told, self._full, self.repeats = self._told + 1, step, 0
        return True
