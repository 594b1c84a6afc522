"""The steps the grad scaler skipped."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import BROKEN, feed, figure, line

PLACE = 42


def panel() -> dict[str, Any]:
    """Spikes from 0 to 1, on an axis of their own: the scale's is logarithmic and would drop the zeros."""
    axis = {"range": [0, 1.05], "tickvals": [0, 1], "ticktext": ["taken", "skipped"]}
    return {
        "id": "skipped_steps",
        "title": "Skipped steps",
        "help": "1 where the grad scaler skipped the step. Running statistics keep what the skipped step fed them.",
        "scope": "run",
        "kind": "lines",
        "figure": figure([line("skipped", color=BROKEN, fill="tozeroy")], y="skipped", axis=axis),
        "feeds": [feed(0, wire.RUN, wire.SKIPPED)],
    }
