"""What one transaction changed, run by run: what the hub tells the browsers once it is committed."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainvitals_server.alerts import Alert
from trainvitals_server.store.events import Row as EventRow
from trainvitals_server.store.series import Row as SeriesRow


class Frame(NamedTuple):
    """One stored frame: `layout` is the layout's row id, `columns` the series id of each value."""

    layout: int
    columns: NDArray[np.int64]
    step: int
    time: float
    rank: int
    values: bytes
    present: bytes | None


@dataclass
class RunChanges:
    """What changed in one run."""

    frames: list[Frame] = field(default_factory=list)
    series: list[SeriesRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    commands: list[dict[str, Any]] = field(default_factory=list)
    state: str | None = None
    stored: int = 0  # frames of any rank and producer
    retold: bool = False  # events were taken back

    def add(self, other: "RunChanges") -> None:
        """Append what changed afterwards."""
        for name in ("frames", "series", "events", "alerts", "commands"):
            getattr(self, name).extend(getattr(other, name))
        self.state = other.state or self.state
        self.stored += other.stored
        self.retold |= other.retold


class Changes(defaultdict[str, RunChanges]):
    """Run id -> what changed in it."""

    def __init__(self) -> None:
        super().__init__(RunChanges)

    def touch(self, run: str) -> None:
        """Something changed in a run that only its summary shows."""
        self[run].add(RunChanges())

    def add(self, other: "Changes") -> None:
        """Append what changed afterwards."""
        for run, changed in other.items():
            self[run].add(changed)
