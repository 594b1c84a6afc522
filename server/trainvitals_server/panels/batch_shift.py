"""How far each batch lay from a pinned layer's running mean."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import WARNING, feed, figure, limit, line

PLACE = 120


def panel() -> dict[str, Any]:
    """One line, with the limit of rule 3."""
    return {
        "id": "batch_shift",
        "title": "Batch against running mean",
        "help": "How many standard deviations the batch's own mean lay from the running mean, in the channel farthest "
        "out. Warns above 10 in 3 of 10 steps. No data until the averages have settled: 50 updates, more at a momentum "
        "below 0.1, and again after a load or a repair.",
        "scope": "layer",
        "kind": "lines",
        "figure": figure([line("batch shift", unit="std")], y="standard deviations", shapes=[limit(10, WARNING)]),
        "feeds": [feed(0, wire.NORM, wire.BATCH_SHIFT)],
    }
