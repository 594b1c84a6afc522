"""How bad a run was along its steps: the few levels of a sparkline."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from trainvitals import wire
from trainvitals_server.alerts import Alert
from trainvitals_server.incidents import Incident

CELLS = 60
LOST = -1  # nothing is known of any of the steps
LEVEL = {"info": 1, "warning": 2, "critical": 3}


class Span(NamedTuple):
    """Steps `low` to `high`, both included, at a level of 0 (ok) to 3 (critical)."""

    low: int
    high: int
    level: int


def spans(incidents: Sequence[Incident], alerts: Sequence[Alert], last: int) -> Iterable[Span]:
    """Where things were bad: an incident from its first bad step to its last, an open one up to now."""
    for incident in incidents:
        yield Span(incident.first_bad_step, last if incident.open else incident.last_step, 3)
    for alert in alerts:
        yield Span(alert.first_step, alert.last_step, LEVEL[alert.severity])


def missing(gaps: Iterable[tuple[int, wire.Gap]]) -> Iterable[Span]:
    """Steps all of whose records were lost, as far as the gaps name them."""
    for _, gap in gaps:
        if gap.first_step is not None and gap.last_step is not None:
            yield Span(gap.first_step, gap.last_step, LOST)


def sparkline(first: int, last: int, bad: Iterable[Span], lost: Iterable[Span] = ()) -> list[int]:
    """At most `CELLS` levels over steps `first` to `last`, each the worst of its steps; `LOST` where nothing bad is
    known and all of a cell's steps were lost."""
    cells = min(CELLS, last - first + 1)
    width = (last - first + 1) / cells
    levels = [0] * cells
    for span in lost:
        for cell in range(cells):
            if span.low <= first + cell * width and first + (cell + 1) * width - 1 <= span.high:
                levels[cell] = LOST
    for span in bad:
        low, high = max(span.low, first), min(span.high, last)
        if low <= high:
            for cell in range(int((low - first) / width), min(cells - 1, int((high - first) / width)) + 1):
                levels[cell] = max(levels[cell], span.level)
    return levels
