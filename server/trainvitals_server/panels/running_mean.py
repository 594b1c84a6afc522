"""The range of a pinned layer's running mean over its channels."""

from typing import Any

from trainvitals import wire
from trainvitals_server.panels.figures import HIGH, LOW, feed, figure, line

PLACE = 100


def panel() -> dict[str, Any]:
    """A band from the smallest to the largest channel."""
    return {
        "id": "running_mean",
        "title": "Running mean, range",
        "help": "Smallest and largest channel of the running mean. One Inf or NaN stays until it is repaired.",
        "scope": "layer",
        "kind": "band",
        "figure": figure([line("smallest", color=LOW), line("largest", color=HIGH)], y="running mean"),
        "feeds": [feed(0, wire.NORM, wire.MEAN_MIN, "low"), feed(1, wire.NORM, wire.MEAN_MAX, "high")],
    }
